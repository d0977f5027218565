"""A real Celery worker in its own process, doing what Celery users do, with results over rpc:// on the same broker."""

import datetime
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TASKS = 1000


@pytest.fixture
def celery(broker, tmp_path, monkeypatch):
    """The application in this process and a worker in another; yields (tasks module, worker process, log file)."""
    queue = f"celery.{uuid.uuid4().hex[:8]}"
    environment = {"CELERY_BROKER": f"amqp://guest:guest@{broker.host}:{broker.port}//", "CELERY_QUEUE": queue}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.syspath_prepend(str(HERE))
    sys.modules.pop("tasks", None)
    tasks = importlib.import_module("tasks")
    log = tmp_path / "worker.log"
    with open(log, "wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool=threads", "--concurrency=4",
             "--loglevel=INFO", f"--hostname=w{queue}@%h"],
            cwd=HERE, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"), stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while b"ready." not in log.read_bytes():
            assert worker.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield tasks, worker, log
    finally:
        if worker.poll() is None:
            worker.kill()
        worker.wait()
        tasks.app.close()
        channel = broker.channel()
        channel.queue_delete(queue)


def test_a_thousand_tasks_and_everything_around_them(celery):
    from celery import chain, group

    tasks, worker, log = celery
    began = time.monotonic()
    results = [tasks.add.delay(n, n) for n in range(TASKS)]
    assert [result.get(timeout=60) for result in results] == [2 * n for n in range(TASKS)]
    print(f"{TASKS} tasks and results in {time.monotonic() - began:.1f} s")

    assert chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.add.s(100))().get(timeout=20) == 113
    assert group(tasks.add.s(n, n) for n in range(20))().get(timeout=20) == [2 * n for n in range(20)]
    print("chain and group done")

    began = time.monotonic()
    assert tasks.third_time_lucky.delay("value").get(timeout=20) == ["value", 2]
    assert time.monotonic() - began >= 0.6, "the countdown of both retries was not waited for"
    print("retried twice with countdown")

    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    result = tasks.add.apply_async((20, 22), eta=eta)
    assert result.get(timeout=20) == 42
    assert datetime.datetime.now(datetime.timezone.utc) >= eta, "ran before its ETA"
    print("ETA kept")

    assert tasks.acked_late.delay("late").get(timeout=20) == "late"
    with pytest.raises(ValueError, match="as asked"):
        tasks.boom.delay().get(timeout=20)

    revoked = tasks.add.apply_async((1, 1), countdown=3)
    revoked.revoke()
    inspect = tasks.app.control.inspect(timeout=5)
    inspect.limit = 1
    mine = [name for name in (inspect.ping() or {}) if name.startswith("wcelery.")]
    assert mine and inspect.ping()[mine[0]] == {"ok": "pong"}
    assert "tasks.add" in inspect.registered()[mine[0]]
    assert revoked.id in inspect.revoked()[mine[0]]
    print("inspect: ping, registered, revoked")

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0, log.read_text()[-3000:]
    assert "Warm shutdown" in log.read_text()
    print("warm shutdown")


def test_what_a_killed_worker_had_taken_is_done_by_the_next(celery):
    """acks_late: kill -9 in the middle of twenty slow tasks, four of them running, the others fetched ahead."""
    tasks, worker, _ = celery
    results = [tasks.slow.delay(n) for n in range(20)]
    assert results[0].get(timeout=20) == 0
    worker.kill()
    worker.wait()
    again = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool=threads", "--concurrency=4",
         "--loglevel=WARNING"],
        cwd=HERE, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        assert [result.get(timeout=40) for result in results] == list(range(20))
    finally:
        again.terminate()
        assert again.wait(timeout=30) == 0
