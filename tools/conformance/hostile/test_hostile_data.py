"""A data directory that is locked, read-only, not a directory, from a newer format, damaged, or on a full disk: each gets a
clear error that names it, nothing crashes, and nothing that was promised is lost."""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import subprocess

import pika
import pika.exceptions
import pytest

from harness.broker import PERSISTENT, bodies, depth
from harness.http_client import request
from harness.server import Server, limit_file_size, run_cli
from harness.wait import until

pytestmark = pytest.mark.ours
# No watermark: these disks are small on purpose.
CONFIG = {"services": [{"name": "q", "protocol": "queue", "host": "q", "routes": [{"name": "q", "paths": ["/q"]}]}],
          "limits": {"disk_free_limit": 0}}


def channel(server):
    return pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()


def fill(server, count=20):
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.confirm_delivery()
    for number in range(count):
        ch.basic_publish("", "q", b"%d" % number, PERSISTENT)
    ch.connection.close()


def refuses_to_start(server, *words, preexec=None):
    """Starts and expects exit code 1 soon, with the words in what it says."""
    before = len(server.stderr())
    server.spawn(preexec)
    code = server.wait_exit(10)
    said = server.stderr()[before:]
    assert code == 1, f"exit code {code}: {said}"
    for word in words:
        assert word in said, f"{word!r} is not in: {said}"
    server.check_no_panic()
    return said


def holds_everything(server, count=20):
    ch = channel(server)
    assert bodies(ch, "q") == [b"%d" % number for number in range(count)]
    ch.connection.close()


def test_locked_by_another_process(start_server, tmp_path):
    first = start_server(CONFIG)
    fill(first)
    second = Server(tmp_path / "second", CONFIG)
    second.data = first.data
    refuses_to_start(second, "locked", str(first.data))
    assert first.ready()
    holds_everything(first)


def test_the_lock_of_a_killed_process_does_not_stay(start_server):
    server = start_server(CONFIG)
    fill(server)
    server.kill()
    server.start()
    holds_everything(server)


def drop_override():
    """A preexec function: root without the capability to write where the mode forbids it. For others it does nothing."""
    libc = ctypes.CDLL(None, use_errno=True)

    def apply():
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP

    return apply


def chmod_tree(root, writable):
    for folder, _, files in os.walk(root):
        os.chmod(folder, 0o755 if writable else 0o555)
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644 if writable else 0o444)


def test_read_only(start_server):
    server = start_server(CONFIG)
    fill(server)
    server.stop()
    chmod_tree(server.data, writable=False)
    try:
        refuses_to_start(server, str(server.data), preexec=drop_override())
    finally:
        chmod_tree(server.data, writable=True)
    server.start()
    holds_everything(server)


def test_cannot_be_made(tmp_path):
    server = Server(tmp_path / "server", CONFIG)
    (tmp_path / "file").write_text("not a directory")
    server.data = tmp_path / "file" / "data"
    refuses_to_start(server, str(server.data))
    server.data = tmp_path / "file"
    refuses_to_start(server, str(server.data))
    assert (tmp_path / "file").read_text() == "not a directory"


def wal_files(server):
    """The log's files, by their magic."""
    return [file for file in sorted(server.data.rglob("*")) if file.is_file()
            and file.open("rb").read(8) == b"SLUICWAL"]


def test_from_a_newer_format(start_server):
    server = start_server(CONFIG)
    fill(server)
    server.stop()
    files = wal_files(server)
    assert files, "no file starts with the log's magic; has the format changed?"
    kept = {file: file.read_bytes() for file in files}
    for file, content in kept.items():
        with open(file, "r+b") as f:
            f.seek(8)
            f.write((99).to_bytes(4, "little"))
        assert file.stat().st_size == len(content)
    refuses_to_start(server, "format 99", "newer")
    for file, content in kept.items():
        assert file.read_bytes()[12:] == content[12:], "a refused directory must not be touched"
        file.write_bytes(content)
    server.start()
    holds_everything(server)


def test_damaged_before_the_tail_is_said_and_not_hidden(start_server):
    """A flipped bit in a synced record that others follow: never a panic, never silence about it."""
    server = start_server(CONFIG)
    fill(server, 200)
    server.stop()
    damaged = False
    for file in wal_files(server):
        content = bytearray(file.read_bytes())
        at = content.find(b"100", 64)
        if at > 0:
            content[at] ^= 0x40
            file.write_bytes(content)
            damaged = True
            break
    assert damaged, "the body is nowhere in the log"
    before = len(server.stderr())
    server.spawn()
    until(server.ready_or_dead, "started or refused", 10)
    said = server.stderr()[before:].lower()
    assert "damaged" in said or "quarantine" in said or "crc" in said, said
    if server.alive():
        server.stop()
    else:
        assert server.process.returncode == 1
    server.check_no_panic()


def test_damage_is_repaired_by_name_and_everything_else_stays(start_server):
    """`sluicegate repair` says what is affected, changes nothing until it is told to, and then only that is missing."""
    server = start_server(CONFIG)
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.queue_declare("other", durable=True)
    ch.confirm_delivery()
    for number in range(40):
        ch.basic_publish("", "q" if number % 2 else "other", b"body-%04d" % number, PERSISTENT)
    ch.connection.close()
    assert run_cli("repair", server.data).returncode == 1, "it is in use"
    server.stop()
    sound = run_cli("repair", server.data)
    assert sound.returncode == 0 and "nothing is damaged" in sound.stdout, sound
    for file in wal_files(server):
        content = bytearray(file.read_bytes())
        at = content.find(b"body-0011")
        if at > 0:
            content[at] ^= 0x40
            file.write_bytes(content)
    refuses_to_start(server, "damaged", "sluicegate repair")
    before = {file: file.read_bytes() for file in wal_files(server)}
    looked = run_cli("repair", server.data)
    assert looked.returncode == 1 and "queue `q` of vhost `/`: up to 1 messages" in looked.stdout, looked
    assert {file: file.read_bytes() for file in wal_files(server)} == before, "looking changed something"
    found = json.loads(run_cli("repair", server.data, "--json").stdout)
    assert [(queue["name"], queue["messages"]) for queue in found["damages"][0]["queues"]] == [("q", 1)]
    done = run_cli("repair", server.data, "--apply")
    assert done.returncode == 0, done
    aside = list((server.data / "quarantine").iterdir())
    assert len(aside) == 1 and bytes([ord("b") ^ 0x40]) + b"ody-0011" in aside[0].read_bytes()
    server.start()
    ch = channel(server)
    assert bodies(ch, "q") == [b"body-%04d" % number for number in range(1, 40, 2) if number != 11]
    assert bodies(ch, "other") == [b"body-%04d" % number for number in range(0, 40, 2)]
    ch.connection.close()


def test_large_bodies_that_are_missing_or_damaged_are_named_with_their_queue(start_server):
    """`sluicegate repair` names them, as the next start does; it needs no repair, and everything else is delivered."""
    server = start_server(CONFIG)
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.confirm_delivery()
    large = [bytes([number]) * (1_500_000 + number) for number in range(3)]
    for body in large:
        ch.basic_publish("", "q", body, PERSISTENT)
    ch.basic_publish("", "q", b"small", PERSISTENT)
    ch.connection.close()
    server.stop()
    missing, damaged, _ = files = sorted(server.data.glob("body-*.data"))
    missing.unlink()
    content = bytearray(damaged.read_bytes())
    content[700_000] ^= 1
    damaged.write_bytes(content)
    looked = run_cli("repair", server.data)
    assert looked.returncode == 0 and "nothing else is damaged" in looked.stdout, looked
    assert f"{missing.name}: missing" in looked.stdout and f"{damaged.name}: damaged at " in looked.stdout, looked
    assert looked.stdout.count("queue `q` of vhost `/`: 1 messages") == 2, looked
    found = json.loads(run_cli("repair", server.data, "--json").stdout)["damaged_bodies"]
    assert [(body["file"], body["missing"], body["queues"][0]["name"]) for body in found] == [
        (missing.name, True, "q"), (damaged.name, False, "q")]
    assert sorted(server.data.glob("body-*")) == list(files[1:]), "nothing is moved"
    server.start()
    assert missing.name in server.stderr(), "the start tells of it, too"
    ch = channel(server)
    # The damaged one is found when it is read: its consumer gets nothing of it, and it is kept aside.
    with contextlib.suppress(pika.exceptions.AMQPError):
        ch.basic_get("q")
    ch = channel(server)
    assert until(lambda: bodies(ch, "q"), "the others") == [large[2], b"small"]
    ch.connection.close()


def test_a_queue_whose_record_is_damaged_keeps_its_messages_under_another_name(start_server):
    server = start_server({"limits": {"disk_free_limit": 0}})
    fill(server)
    server.stop()
    hit = 0
    for file in wal_files(server):
        content = bytearray(file.read_bytes())
        # The topology's record of the queue: T, q, and the names behind their lengths.
        at = content.find(b"Tq\x01\x00/\x01\x00q")
        if at > 0:
            content[at] ^= 0x40
            file.write_bytes(content)
            hit += 1
    assert hit == 1, "the queue's record is nowhere; has its format changed?"
    refuses_to_start(server, "damaged")
    assert run_cli("repair", server.data, "--apply").returncode == 0
    server.start()
    listed = json.loads(run_cli("queues", "--management", f"127.0.0.1:{server.ports['management']}", "--json").stdout)
    [name] = [queue["name"] for queue in listed if queue["name"].startswith("repaired-")]
    ch = channel(server)
    assert bodies(ch, name) == [b"%d" % number for number in range(20)]
    ch.connection.close()
    server.restart()
    assert depth(channel(server), name) == 0


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_torn_tail_is_cut_and_everything_before_it_kept(start_server, cut):
    """Bytes of an unfinished record at the end of the log: recovery cuts them and goes on."""
    server = start_server(CONFIG)
    fill(server)
    server.kill()
    last = wal_files(server)[-1]
    content = last.read_bytes()
    used = len(content.rstrip(b"\0"))
    with open(last, "r+b") as f:
        f.seek(used)
        f.write(b"\x5a" * cut)
    server.start()
    holds_everything(server)
    fill(server)
    server.restart()
    holds_everything(server)


@contextlib.contextmanager
def small_disk(path, mib):
    """A tmpfs of `mib` MiB at path where we may mount one; yields a function that makes it larger, or None where we may not
    (the caller then bounds the size of files instead, which fails the same writes)."""
    path.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path], check=False,
                             capture_output=True).returncode == 0

    def grow(to_mib):
        subprocess.run(["mount", "-o", f"remount,size={to_mib}m", path], check=True)

    try:
        yield grow if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", path], check=True)


def publish_until_refused(server, body, limit):
    """POSTs until something else than a 202 comes; returns how many were accepted and what ended it."""
    for accepted in range(limit):
        try:
            answer = request(server.ports["http"], "POST", "/q", b"%08d" % accepted + body)
        except OSError as gone:
            return accepted, repr(gone)
        if answer.status != 202:
            assert answer.status in (429, 503, 507), answer
            return accepted, answer.text
    raise AssertionError(f"{limit} messages fitted on a disk that is too small for them")


def test_a_full_disk(tmp_path):
    """Filled over HTTP: from some point on no 202 is given, the reason is said, nothing panics; with more space every 202 is
    there, in order."""
    server = Server(tmp_path / "server", CONFIG)
    with small_disk(server.data, 48) as grow:
        server.start(None if grow else limit_file_size(3_000_000))
        try:
            accepted, why = publish_until_refused(server, b"f" * 100_000, limit=2000)
            print(f"{accepted} accepted, then: {why[:200]}")
            assert accepted > 5
            said = server.stderr().lower()
            assert "full" in said or "space" in said or "large" in said or "watermark" in said, said[-1500:]
            if server.alive():
                assert request(server.ports["admin"], "GET", "/metrics").status == 200
                server.kill()
            else:
                assert server.process.returncode == 1, server.stderr()[-1500:]
            server.check_no_panic()
            if grow:
                grow(512)
            server.start()
            ch = channel(server)
            got = [int(body[:8]) for body in bodies(ch, "q")]
            assert got[:accepted] == list(range(accepted)), "a 202 is missing or out of order"
            assert len(got) <= accepted + 1
            ch.connection.close()
            assert request(server.ports["http"], "POST", "/q", b"works again").status == 202
            server.stop()
        finally:
            if server.alive():
                server.kill()


def test_a_full_disk_seen_by_amqp(tmp_path):
    """The same with confirms: none is sent for what is not on disk; consumers go on and make room."""
    server = Server(tmp_path / "server", CONFIG)
    with small_disk(server.data, 48) as grow:
        server.start(None if grow else limit_file_size(3_000_000))
        try:
            ch = pika.BlockingConnection(pika.ConnectionParameters(
                "127.0.0.1", server.ports["amqp"], blocked_connection_timeout=2, socket_timeout=3)).channel()
            ch.confirm_delivery()
            confirmed = 0
            with pytest.raises((pika.exceptions.AMQPError, OSError)):
                for _ in range(2000):
                    ch.basic_publish("", "q", b"%08d" % confirmed + b"f" * 100_000, PERSISTENT)
                    confirmed += 1
            print(f"{confirmed} confirmed before the disk was full")
            assert confirmed > 5
            server.check_no_panic()
            if server.alive():
                server.kill()
            if grow:
                grow(512)
            server.start()
            ch = channel(server)
            got = [int(body[:8]) for body in bodies(ch, "q")]
            assert got[:confirmed] == list(range(confirmed)), "a confirmed message is missing or out of order"
            ch.connection.close()
            server.stop()
        finally:
            if server.alive():
                server.kill()


class Publisher:
    """A connection that publishes without confirms and notes when the server blocks and unblocks it."""

    def __init__(self, server):
        self.connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
        self.said = []
        self.connection.add_on_connection_blocked_callback(
            lambda _, frame: self.said.append(("blocked", frame.method.reason)))
        self.connection.add_on_connection_unblocked_callback(lambda _, __: self.said.append(("unblocked",)))
        self.channel = self.connection.channel()
        self.sent = 0

    def publish(self, size):
        self.channel.basic_publish("", "q", b"%08d" % self.sent + b"p" * size, PERSISTENT)
        self.sent += 1

    def heard(self, *said):
        def poll():
            self.connection.process_data_events(time_limit=0.05)
            return tuple(self.said[-1:]) == said

        until(poll, f"the server says {said}; it said {self.said}", 15)


def consume_some(server, count):
    """Takes and acks `count` messages on a connection of its own; returns their numbers."""
    ch = channel(server)
    got = []
    for method, _, body in ch.consume("q", inactivity_timeout=15):
        assert method is not None, f"consumers must go on; {len(got)} of {count} came"
        got.append(int(body[:8]))
        ch.basic_ack(method.delivery_tag)
        if len(got) == count:
            break
    ch.cancel()
    ch.connection.close()
    return got


def test_publishers_go_on_after_enospc_without_a_restart(tmp_path):
    """Writes that find no space: publishers are told and wait, consumers go on, and when there is space again publishing
    goes on in the same process. Everything that was confirmed is there."""
    server = Server(tmp_path / "server", CONFIG)
    with small_disk(server.data, 48) as grow:
        server.start()
        pid = server.process.pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        if not grow:
            # Not root: no file of the process may grow, which fails the same writes.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (3_000_000, hard))
        try:
            publisher = Publisher(server)
            for _ in range(2000):
                publisher.publish(100_000)
                publisher.connection.process_data_events(time_limit=0)
                if publisher.said:
                    break
            publisher.heard(("blocked", "low on disk"))
            assert request(server.ports["http"], "POST", "/q", b"no").status == 429
            assert consume_some(server, 3) == [0, 1, 2]
            if grow:
                grow(512)
            else:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            publisher.heard(("unblocked",))
            publisher.connection.close()
            ch = channel(server)
            ch.confirm_delivery()
            ch.basic_publish("", "q", b"%08d works again" % publisher.sent, PERSISTENT)
            got = [int(body[:8]) for body in bodies(ch, "q")]
            assert got == list(range(3, publisher.sent + 1)), "something is missing or out of order"
            ch.connection.close()
            assert server.process.pid == pid and server.alive()
            server.stop()
        finally:
            if server.alive():
                server.kill()


def test_a_disk_short_of_space_stops_publishers_and_not_consumers(tmp_path):
    """The watermark (RabbitMQ's disk_free_limit): publishers are blocked long before the disk is full, and go on by
    themselves when there is space again."""
    server = Server(tmp_path / "server")
    with small_disk(server.data, 256):
        free = shutil.disk_usage(server.data).free
        ballast = free // 2
        server.write_config({**CONFIG, "limits": {"disk_free_limit": free - ballast // 2}})
        server.start()
        try:
            publisher = Publisher(server)
            for _ in range(10):
                publisher.publish(1000)
            until(lambda: depth(channel(server), "q") == 10, "all is there", 10)
            assert not publisher.said
            with open(server.data / "ballast", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, ballast)
            # What the server has not looked at yet may still be taken: it looks once a second.
            for _ in range(200):
                publisher.publish(10)
                publisher.connection.process_data_events(time_limit=0.05)
                if publisher.said:
                    break
            publisher.heard(("blocked", "low on disk"))
            metrics = request(server.ports["admin"], "GET", "/metrics").text
            assert f"sluicegate_disk_free_limit_bytes {free - ballast // 2}" in metrics
            assert consume_some(server, 10) == list(range(10))
            channel(server).queue_declare("another", durable=True)
            (server.data / "ballast").unlink()
            publisher.heard(("unblocked",))
            publisher.connection.close()
            ch = channel(server)
            ch.confirm_delivery()
            ch.basic_publish("", "q", b"%08d" % publisher.sent, PERSISTENT)
            assert [int(body[:8]) for body in bodies(ch, "q")] == list(range(10, publisher.sent + 1))
            ch.connection.close()
            server.stop()
        finally:
            if server.alive():
                server.kill()


def test_no_room_even_to_start(tmp_path):
    server = Server(tmp_path / "server", CONFIG)
    with small_disk(server.data, 48) as grow:
        if grow:
            room = shutil.disk_usage(server.data).free
            (server.data / "ballast").write_bytes(b"b" * room)
            refuses_to_start(server, "full")
        else:
            refuses_to_start(server, str(server.data), preexec=limit_file_size(0))


def test_the_directory_can_be_copied_while_stopped(start_server, tmp_path):
    server = start_server(CONFIG)
    fill(server)
    server.stop()
    copy = tmp_path / "copy"
    shutil.copytree(server.data, copy)
    server.data = copy
    server.start()
    assert (depth_of := depth(channel(server), "q")) == 20, depth_of
    holds_everything(server)
