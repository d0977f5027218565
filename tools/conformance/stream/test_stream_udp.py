"""UDP through `listen.stream`: who gets what, from which address, how sessions end and are told of, targets that are gone, and
what becomes of sessions when the server ends or another process takes over."""

import concurrent.futures
import json
import re
import resource
import socket
import struct
import threading

import pytest

from harness.datagrams import LONGEST, answer_datagrams, ask, client
from harness.ports import free_ports
from harness.server import run_cli
from harness.streams import answer_each, connect, lines, port_of, route, service, to
from harness.streams import ask as ask_tcp
from harness.wait import until
from test_stream_tcp import metrics

pytestmark = pytest.mark.ours


@pytest.fixture
def gateway(start_server):
    """Starts a server that listens for datagrams on one port; `config` is made from it."""

    def start(config, ip="127.0.0.1", beside=(), preexec=None):
        (port,) = free_ports(1)
        listen = {"stream": [{"address": f"{ip}:{port}", "udp": True}, *(each.format(port=port) for each in beside)]}
        server = start_server({"telemetry": {"access_log": "stdout"}, **config(port)}, listen=listen,
                              with_definitions=False, preexec=preexec)
        server.udp = port
        return server

    return start


def leading_to(upstream, **more):
    """All datagrams go there."""
    def made(port):
        return {"services": [service("dns", port_of(upstream), "udp", routes=[route("dns", ["udp"], **to(port))], **more)]}
    return made


def echo(name=b""):
    return answer_datagrams(lambda datagram: name + datagram)


def logged(server, count):
    until(lambda: len(lines(server)) >= count, f"{count} sessions are logged", 10)
    return lines(server)


def test_datagrams_go_both_ways_as_they_are(gateway):
    upstream = echo()
    server = gateway(leading_to(upstream, read_timeout=500))
    with client(server.udp) as peer:
        sizes = (1, 0, 1472, 9000, LONGEST)
        sent = [bytes([size % 251]) * size for size in sizes]
        for datagram in sent:
            assert ask(peer, datagram) == datagram
    assert len({came_from for datagram, came_from in upstream.heard if datagram in sent}) == 1, "one client, one socket"
    (line,) = logged(server, 1)
    assert line["session"] == {"protocol": "udp", "received": sum(sizes), "sent": sum(sizes), "status": 200,
                               "server_port": server.udp, "datagrams": {"received": 5, "sent": 5}}
    assert (line["route"]["name"], line["service"]["name"], line["client_ip"]) == ("dns", "dns", "127.0.0.1")
    assert line["tries"] == [{"ip": "127.0.0.1", "port": port_of(upstream)}] and "reason" not in line
    assert line["latencies"]["session"] >= 500, "silence was its end"
    carried = metrics(server, "sluicegate_stream_datagrams_total")
    assert carried['sluicegate_stream_datagrams_total{route="dns",direction="in"}'] == 5


def test_each_client_gets_its_own_answers(gateway):
    upstream = echo()
    server = gateway(leading_to(upstream))

    def talk(number):
        with client(server.udp) as peer:
            return all(ask(peer, b"%d.%d" % (number, turn)) == b"%d.%d" % (number, turn) for turn in range(20))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(talk, range(16)))
    assert len({came_from for _, came_from in upstream.heard}) == 16
    opened = metrics(server, "sluicegate_stream_sessions_open")
    assert opened['sluicegate_stream_sessions_open{route="dns"}'] == 16


def test_a_question_of_dns_and_its_answer(gateway):
    def answer(question):
        number, (name, rest) = question[:2], question[12:].split(b"\0", 1)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.7")
        return number + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + name + b"\0" + rest[:4] + record

    server = gateway(leading_to(answer_datagrams(answer)))
    question = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + b"\x01a\x04test\0" + struct.pack(">HH", 1, 1)
    with client(server.udp) as peer:
        got = ask(peer, question)
    assert struct.unpack(">H", got[:2]) == (4711,) and got[-4:] == socket.inet_aton("192.0.2.7")


def test_who_is_never_answered_ends_in_silence_and_many_answers_come_to_one_question(gateway):
    mute = answer_datagrams(lambda datagram: [] if datagram == b"log" else [b"1", b"2", b"3"])
    server = gateway(leading_to(mute, read_timeout=300))
    with client(server.udp, timeout_s=0.1) as peer:
        assert ask(peer, b"log") is None
    (line,) = logged(server, 1)
    assert "reason" not in line and line["session"]["datagrams"] == {"received": 1, "sent": 0}
    with client(server.udp) as peer:
        assert [ask(peer, b"x"), peer.recv(9), peer.recv(9)] == [b"1", b"2", b"3"]
    assert logged(server, 2)[1]["session"]["datagrams"] == {"received": 1, "sent": 3}


def test_answers_come_from_the_address_that_was_asked_and_routes_know_it(gateway):
    one, two = echo(b"one "), echo(b"two ")
    server = gateway(lambda port: {"services": [
        service("one", port_of(one), "udp", routes=[route("one", ["udp"], destinations=[{"ip": "127.0.0.1"}])]),
        service("two", port_of(two), "udp", routes=[
            route("two", ["udp"], expression="net.protocol == \"udp\" && net.dst.ip == 127.0.0.2")])]}, ip="0.0.0.0")
    with client(server.udp) as first, client(server.udp, "127.0.0.2") as second, client(server.udp, "127.0.0.3", 0.2) as no:
        # A connected socket hears the address alone that it sends to.
        assert (ask(first, b"x"), ask(second, b"x"), ask(no, b"x")) == (b"one x", b"two x", None)
    (line,) = logged(server, 1)
    assert (line["reason"], line["session"]["status"]) == ("no_route", 404)


def test_a_port_of_udp_and_the_same_of_tcp(gateway):
    udp, tcp = echo(b"udp "), answer_each(b"tcp ")
    server = gateway(lambda port: {"services": [
        service("udp", port_of(udp), "udp", routes=[route("udp", ["udp"], **to(port))]),
        service("tcp", port_of(tcp), routes=[route("tcp", ["tcp"], **to(port))])]}, beside=["127.0.0.1:{port}"])
    with client(server.udp) as datagrams, connect(server.udp) as connection:
        assert ask(datagrams, b"x") == b"udp x" and ask_tcp(connection, b"x") == b"tcp x"


def pool(*ports, **more):
    """A service whose upstream has these targets."""
    targets = [{"target": f"127.0.0.1:{port}"} for port in ports]
    return lambda port: {
        "services": [{**service("dns", 1, "udp", routes=[route("dns", ["udp"], **to(port))], read_timeout=300),
                      "host": "dns.pool"}],
        "upstreams": [{"name": "dns.pool", "targets": targets, **more}]}


def test_sessions_are_shared_by_the_targets(gateway):
    upstreams = [echo(b"one "), echo(b"two ")]
    server = gateway(pool(*map(port_of, upstreams)))
    for _ in range(10):
        with client(server.udp) as peer:
            assert ask(peer, b"x")[4:] == b"x" and ask(peer, b"y")[4:] == b"y"
    assert [len(upstream.heard) for upstream in upstreams] == [10, 10]


def test_what_a_dead_target_refuses_goes_to_another_which_is_told(gateway):
    upstream, (dead,) = echo(), free_ports(1)
    passive = {"healthchecks": {"passive": {"unhealthy": {"tcp_failures": 2}, "healthy": {"successes": 1}}}}
    server = gateway(pool(dead, port_of(upstream), **passive))
    for number in range(8):
        with client(server.udp) as peer:
            assert ask(peer, b"%d" % number) == b"%d" % number
    tries = [line["tries"] for line in logged(server, 8)]
    failed = [each[0] for each in tries if len(each) == 2]
    # After the second failure nobody goes there any more.
    assert [(each["port"], each["state"], each["reason"]) for each in failed] == [(dead, "failed", "connect_refused")] * 2


def test_a_dead_service_is_a_reason_and_one_that_dies_is_too(gateway):
    upstream = echo()
    server = gateway(leading_to(upstream, retries=1))
    with client(server.udp, timeout_s=0.5) as peer:
        assert ask(peer, b"x") == b"x"
        upstream.end()
        assert ask(peer, b"y") is None
        first = logged(server, 1)[0]
        assert (first["reason"], first["session"]["datagrams"]["sent"]) == ("connect_refused", 1)
        assert ask(peer, b"z") is None
    second = logged(server, 2)[1]
    assert (second["reason"], second["session"]["status"], len(second["tries"])) == ("connect_refused", 502, 2)
    failures = metrics(server, "sluicegate_stream_session_failures_total")
    assert failures['sluicegate_stream_session_failures_total{route="dns",reason="connect_refused"}'] == 2


def test_sessions_have_an_end_and_one_address_not_all_of_them(gateway):
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    upstream = echo()
    server = gateway(leading_to(upstream, read_timeout=5000), preexec=few_files)
    peers = [client(server.udp, timeout_s=2) for _ in range(160)]
    try:
        for peer in peers:
            peer.send(b"x")
        dropped = 'sluicegate_stream_datagrams_dropped_total{reason="share"}'
        until(lambda: metrics(server, "sluicegate_stream_datagrams_dropped_total").get(dropped) == 96, "96 have no place", 10)
        opened = metrics(server, "sluicegate_stream_sessions_open")
        assert opened['sluicegate_stream_sessions_open{route="dns"}'] == 64, "half of the sessions, which are half of the files"
        with client(server.udp, source="127.0.0.2") as other:
            assert ask(other, b"y") == b"y", "another address finds room"
        assert ask(peers[0], b"again") in (b"x", b"again"), "who has a session keeps it"
        assert server.ready(), "and there are files left for others"
    finally:
        for peer in peers:
            peer.close()
    until(lambda: len(lines(server)) == 65, "all have ended", 20)
    with client(server.udp) as peer:
        assert ask(peer, b"y") == b"y"


def test_open_sessions_stay_with_their_upstream_over_a_change(gateway):
    first, second = echo(b"first "), echo(b"second ")
    server = gateway(leading_to(first))
    with client(server.udp) as kept, client(server.udp) as fresh:
        assert ask(kept, b"x") == b"first x"
        server.take_over(leading_to(second)(server.udp))
        assert ask(fresh, b"x") == b"second x"
        assert ask(kept, b"y") == b"first y"


def test_the_end_of_the_server_passes_on_the_answers_that_are_due(gateway):
    asked, go = threading.Event(), threading.Event()

    def slow(datagram):
        asked.set()
        go.wait(5)
        return datagram

    server = gateway(leading_to(answer_datagrams(slow)))
    with client(server.udp) as peer:
        peer.send(b"x")
        assert asked.wait(5)
        stop = threading.Thread(target=server.stop)
        stop.start()
        until(lambda: not server.ready(), "it ends", 5)
        go.set()
        assert peer.recv(9) == b"x"
        stop.join(10)
    assert lines(server)[-1]["reason"] == "shutdown"


def test_another_process_takes_the_socket_over(gateway):
    upstream = echo()
    server = gateway(leading_to(upstream))
    lost, answered, done = [], [], threading.Event()

    def keep_asking():
        number = 0
        while not done.is_set():
            number += 1
            with client(server.udp, timeout_s=2) as peer:
                (answered if ask(peer, b"%d" % number) == b"%d" % number else lost).append(number)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    with client(server.udp) as peer:
        assert ask(peer, b"before") == b"before"
        before = server.upgrade()
        # Its session was the old process's; the new one begins another.
        assert ask(peer, b"after") == b"after"
    n_answered = len(answered)
    until(lambda: len(answered) > n_answered + 5, "the new process answers", 10)
    done.set()
    asking.join(10)
    assert before.wait(timeout=20) == 0
    assert lost == [] and len(answered) > 5
    assert len({came_from for datagram, came_from in upstream.heard if datagram in (b"before", b"after")}) == 2


def test_what_does_not_go_with_udp_is_refused_by_name(tmp_path):
    config = tmp_path / "sluicegate.yaml"
    config.write_text(json.dumps({"_format_version": "3.0", "listen": {"stream": [
        {"address": "127.0.0.1:1", "udp": True, "tls": {}, "proxy_protocol": True}]}}))
    said = run_cli("check", config)
    assert said.returncode != 0
    assert re.findall(r"`(\w+)` is for connections, not for `udp`", said.stderr + said.stdout) == ["tls", "proxy_protocol"]
