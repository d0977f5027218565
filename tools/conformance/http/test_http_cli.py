"""The command line: check, version, run's refusals, environment overrides, publish, consume and queues for people."""

import json
import re
import subprocess

import pika
import pytest

from harness.broker import PERSISTENT, depth, wait_depth
from harness.http_client import request
from harness.ports import free_ports
from harness.server import run_cli
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours

# (line with one mistake each, what the message about it must contain)
TEN_MISTAKES = '''\
_format_version: "3.0"
listen:
  http: [127.0.0.1:99999]
  amqq: [127.0.0.1:5672]
services:
- name: one
  url: "gopher://127.0.0.1"
  routes:
  - name: r1
    pahts: [/x]
    hosts: [a.example]
- name: one
  url: "http://127.0.0.1:9"
  retries: many
  routes:
  - name: r2
    paths: [no-slash]
plugins:
- name: key-aut
- name: correlation-id
  config: { generator: guid }
consumers:
- username: ann
  keyauth_credentials: [{ kye: a }]
subscriptions:
- name: s
  queue: q
  url: "http://127.0.0.1:9"
  retry: { base: soon }
'''
EXPECTED = [
    (3, ["99999"]), (4, ["amqq", "amqp"]), (7, ["gopher"]), (10, ["pahts", "paths"]), (12, ["one"]), (14, ["many"]),
    (17, ["no-slash"]), (19, ["key-aut", "key-auth"]), (21, ["guid", "uuid"]), (24, ["kye", "key"]), (29, ["soon"]),
]


def test_check_reports_every_mistake_with_its_place(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(TEN_MISTAKES)
    done = run_cli("check", file)
    said = done.stdout + done.stderr
    print(said)
    assert done.returncode == 1
    lines = TEN_MISTAKES.splitlines()
    for line, words in EXPECTED:
        found = re.search(rf"broken\.yaml:{line}:(\d+)", said)
        assert found, f"line {line} is not reported: {lines[line - 1]!r}\n{said}"
        assert 1 <= int(found.group(1)) <= len(lines[line - 1]), f"column of line {line}"
        after = said[found.start():]
        following = re.search(r"broken\.yaml:(?!%d:)\d+:" % line, after[20:])
        block = after[:following.start() + 20] if following else after
        around = said[max(0, found.start() - 400):found.start()] + block
        for word in words:
            assert word in around, f"line {line}: {word!r} is not in the report:\n{around}"
        if "keyauth_credentials" not in lines[line - 1]:  # a line that may hold a secret need not be shown
            assert lines[line - 1].strip() in said, f"the offending line {line} is not shown"
    for line, column in ((4, 3), (10, 5)):
        assert f"broken.yaml:{line}:{column}" in said, "a misspelt key is pointed at where it begins"
    assert said.lower().count("did you mean") >= 4


def test_a_server_does_not_start_with_a_broken_file_and_says_the_same(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(TEN_MISTAKES)
    done = run_cli("run", file, "--data", tmp_path / "data")
    assert done.returncode not in (0, 101) and done.returncode > 0
    for line, _ in EXPECTED:
        assert f"broken.yaml:{line}:" in done.stderr
    assert not (tmp_path / "data").exists(), "a refused configuration must leave nothing behind"


@pytest.mark.parametrize("text, place, words", [
    ("services: [\n", "f.yaml:", []),
    ("_format_version: \"3.0\"\nservices:\n\t- name: x\n", "f.yaml:3:", ["tab"]),
    ("_format_version: \"9.9\"\n", "f.yaml:1:", ["9.9", "3.0"]),
    ("services: []\n", "f.yaml", ["_format_version"]),
    ("- 1\n- 2\n", "f.yaml:1:", []),
    ("_format_version: \"3.0\"\nservices: []\nservices: []\n", "f.yaml:3:", ["services"]),
    ("_format_version: \"3.0\"\nlisten: {admin: [0.0.0.0:8001]}\n", "f.yaml:2:", ["loopback"]),
    ("_format_version: \"3.0\"\nservices: [{name: a, url: 'http://a', plugins: [{name: oauth2}]}]\n", "f.yaml:2:",
     ["oauth2"]),
    ("_format_version: \"3.0\"\nplugins: [{name: rate-limiting, config: {minute: 5, policy: redis}}]\n", "f.yaml:2:",
     ["redis"]),
    ("_format_version: \"3.0\"\nplugins: [{name: rate-limiting, config: {}}]\n", "f.yaml:2:", ["second"]),
    ("_format_version: \"3.0\"\nroutes: [{name: r, paths: ['~/(unclosed']}]\n", "f.yaml:2:", ["unclosed"]),
    ("_format_version: \"3.0\"\nroutes: [{name: r}]\n", "f.yaml:2:", ["paths"]),
    ("_format_version: \"3.0\"\nroutes: [{name: r, paths: [/x], service: nobody}]\n", "f.yaml:2:", ["nobody"]),
])
def test_other_mistakes(tmp_path, text, place, words):
    (tmp_path / "f.yaml").write_text(text)
    done = run_cli("check", tmp_path / "f.yaml")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert place in said, said
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: &a [*a, *a]\n", b"[" * 20000, b"{a: " * 20000,
                                  b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
                                      b"%c: &%c [%s]\n" % (c + 1, c + 1, b",".join([b"*%c" % c] * 9))
                                      for c in range(97, 110))],
                         ids=["not UTF-8", "alias to itself", "20,000 lists deep", "20,000 maps deep", "alias bomb"])
def test_hostile_yaml(tmp_path, text):
    (tmp_path / "f.yaml").write_bytes(text)
    done = run_cli("check", tmp_path / "f.yaml")
    assert done.returncode == 1, f"exit code {done.returncode}: {done.stderr[-500:]}"
    assert "f.yaml" in done.stdout + done.stderr
    assert "panicked" not in done.stderr


def test_a_missing_file(tmp_path):
    for command in ("check", "run"):
        done = run_cli(command, tmp_path / "none.yaml", cwd=tmp_path)
        assert done.returncode == 1
        assert "none.yaml" in done.stdout + done.stderr


def test_a_good_file_passes(tmp_path):
    (tmp_path / "f.yaml").write_text('_format_version: "3.0"\nservices: []\n')
    assert run_cli("check", tmp_path / "f.yaml").returncode == 0


def test_version_and_help():
    done = run_cli("version")
    assert done.returncode == 0 and re.fullmatch(r"sluicegate \d+\.\d+\.\d+\S*", done.stdout.splitlines()[0])
    text = run_cli("--help").stdout
    for command in ("run", "check", "publish", "consume", "queues", "repair", "version"):
        assert command in text
    assert run_cli("no-such-command").returncode not in (0, 101)


def test_environment_overrides_a_setting(start_server):
    override, second = free_ports(2)
    server = start_server(env={"SLUICEGATE_LISTEN__AMQP": f"127.0.0.1:{override},127.0.0.1:{second}"})
    for port in (override, second):
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        connection.close()
    assert str(override) in server.stderr(), "the ready line tells where it really listens"


def test_a_bad_environment_override_is_named(tmp_path):
    (tmp_path / "f.yaml").write_text('_format_version: "3.0"\n')
    done = run_cli("run", tmp_path / "f.yaml", "--data", tmp_path / "d", env={"SLUICEGATE_LISTEN__AMQP": "nonsense"})
    assert done.returncode == 1
    assert "SLUICEGATE_LISTEN__AMQP" in done.stderr


def test_run_without_a_file_uses_the_defaults(tmp_path, start_server):
    """Built-in defaults, moved to free ports by the environment so that the test can run anywhere."""
    http, amqp, admin, management = free_ports(4)
    import os

    from harness.server import binary

    env = dict(os.environ, SLUICEGATE_LISTEN__HTTP=f"127.0.0.1:{http}", SLUICEGATE_LISTEN__AMQP=f"127.0.0.1:{amqp}",
               SLUICEGATE_LISTEN__ADMIN=f"127.0.0.1:{admin}", SLUICEGATE_LISTEN__MANAGEMENT=f"127.0.0.1:{management}")
    with open(tmp_path / "err", "wb") as err:
        process = subprocess.Popen([binary(), "run"], cwd=tmp_path, env=env, stderr=err, stdout=subprocess.DEVNULL)
    try:
        until(lambda: ready(admin), "ready", 10)
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", amqp))
        connection.close()
        assert (tmp_path / "sluicegate-data").is_dir()
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0


def ready(admin):
    try:
        return request(admin, "GET", "/status/ready").status == 200
    except OSError:
        return False


def test_publish_consume_and_queues(start_server):
    server = start_server()
    amqp, management = f"127.0.0.1:{server.ports['amqp']}", f"127.0.0.1:{server.ports['management']}"
    done = run_cli("publish", "people", '{"item": "book"}', "--content-type", "application/json", "--declare", "--amqp",
                   amqp)
    assert done.returncode == 0, done.stderr
    channel = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
    wait_depth(channel, "people", 1)
    listed = run_cli("queues", "--management", management)
    assert listed.returncode == 0 and re.search(r"\bpeople\b.*\b1\b", listed.stdout), listed.stdout
    as_json = json.loads(run_cli("queues", "--management", management, "--json").stdout)
    assert {"people"} <= {queue["name"] for queue in as_json}
    assert next(q for q in as_json if q["name"] == "people")["messages_ready"] == 1
    done = run_cli("consume", "people", "--count", "1", "--json", "--amqp", amqp)
    assert done.returncode == 0, done.stderr
    message = json.loads(done.stdout)
    assert "book" in json.dumps(message) and "application/json" in json.dumps(message)
    assert depth(channel, "people") == 0
    channel.basic_publish("", "people", b"for the eyes", PERSISTENT)
    assert "for the eyes" in run_cli("consume", "people", "--count", "1", "--amqp", amqp).stdout
    channel.connection.close()


def test_publish_to_nowhere_fails_and_says_so(start_server):
    server = start_server()
    amqp = f"127.0.0.1:{server.ports['amqp']}"
    done = run_cli("publish", "no-such-queue", "x", "--amqp", amqp)
    assert done.returncode == 1 and "no-such-queue" in done.stderr
    done = run_cli("consume", "no-such-queue", "--count", "1", "--amqp", amqp)
    assert done.returncode == 1 and "no queue 'no-such-queue'" in done.stderr
    done = run_cli("publish", "q", "x", "--amqp", amqp, "--password", "wrong")
    assert done.returncode == 1 and "ACCESS_REFUSED" in done.stderr
    (nobody,) = free_ports(1)
    done = run_cli("publish", "q", "x", "--amqp", f"127.0.0.1:{nobody}")
    assert done.returncode == 1 and str(nobody) in done.stderr
    done = run_cli("queues", "--management", f"127.0.0.1:{nobody}")
    assert done.returncode == 1 and str(nobody) in done.stderr


def test_a_port_in_use_is_named(start_server, tmp_path):
    server = start_server()
    (tmp_path / "f.yaml").write_text(json.dumps({"_format_version": "3.0", "listen": {
        "http": server.listen["http"], "amqp": [f"127.0.0.1:{free_ports(1)[0]}"], "admin": [], "management": []}}))
    done = run_cli("run", tmp_path / "f.yaml", "--data", tmp_path / "other-data")
    assert done.returncode == 1
    assert str(server.ports["http"]) in done.stderr
    assert server.alive()


def test_a_kong_file_runs_as_it_is(start_server, tmp_path):
    """Only Kong's keys, no listen and no broker: the listeners come from the environment here, to be on free ports."""
    with Upstream() as upstream:
        text = f'''_format_version: "3.0"
_transform: true
services:
- name: my-service
  url: {upstream.url()}
  tags: [a]
  routes:
  - name: my-route
    paths: [/mine]
    strip_path: true
consumers:
- username: ann
  keyauth_credentials:
  - key: ann-key
plugins:
- name: key-auth
  route: my-route
'''
        server = start_server()
        server.stop()
        server.write_text(text)
        server.env.update({f"SLUICEGATE_LISTEN__{name.upper()}": f"127.0.0.1:{port}"
                           for name, port in server.ports.items()})
        server.start()
        assert request(server.ports["http"], "GET", "/mine").status == 401
        assert request(server.ports["http"], "GET", "/mine/x", headers={"apikey": "ann-key"}).json["path"] == "/x"
