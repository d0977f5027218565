"""TCP through `listen.stream`: what goes in comes out, half-closed connections, a reader that is slow, targets that are down,
where clients come from, changes under open connections, and what is told of all that."""

import json
import socket
import threading
import urllib.error
import urllib.request

import pytest

from harness.ports import free_ports
from harness.sockets import serve_each
from harness.streams import answer_each, ask, connect, is_closed, lines, port_of, route, service, to
from harness.wait import until

pytestmark = pytest.mark.ours


@pytest.fixture
def gateway(start_server):
    """Starts a server whose listeners for connections are on these ports; `config` is made from them."""

    def start(config, listeners=1, **more):
        ports = free_ports(listeners)
        listen = {"stream": [{"address": f"127.0.0.1:{port}", **more} for port in ports]}
        server = start_server({"telemetry": {"access_log": "stdout"}, **config(*ports)}, listen=listen,
                              with_definitions=False)
        server.stream = ports
        return server

    return start


def metrics(server, name):
    """The samples of a family, by their labels."""
    with urllib.request.urlopen(server.url("admin", "/metrics"), timeout=10) as answer:
        text = answer.read().decode()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines() if line.startswith(name)}


def last_line(server):
    until(lambda: lines(server), "there is a line", 10)
    return lines(server)[-1]


def test_bytes_go_both_ways_and_each_end_is_passed_on(gateway):
    heard = []

    def collect(connection):
        with connection:
            heard.append(b"".join(iter(lambda: connection.recv(65536), b"")))
            connection.sendall(b"got %d" % len(heard[0]))

    upstream = serve_each(collect)
    server = gateway(lambda port: {"services": [service("db", port_of(upstream), routes=[
        route("db", ["tcp"], **to(port))])]})
    sent = bytes(range(256)) * 4096
    with connect(server.stream[0]) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: peer.recv(100), b"")) == b"got %d" % len(sent)
    assert heard == [sent]
    line = last_line(server)
    assert line["session"] == {"protocol": "tcp", "received": len(sent), "sent": 11, "status": 200,
                               "server_port": server.stream[0]}
    assert line["upstream"] == {"received": 11, "sent": len(sent)}
    assert (line["route"]["name"], line["service"]["name"]) == ("db", "db")
    assert line["tries"] == [{"ip": "127.0.0.1", "port": port_of(upstream)}] and "reason" not in line
    assert metrics(server, "sluicegate_stream_bytes_total")[
        'sluicegate_stream_bytes_total{route="db",direction="in"}'] == len(sent)


def test_a_slow_reader_holds_the_writer_back_and_costs_no_memory(gateway):
    writer = {}

    def flood(connection):
        connection.settimeout(0.3)
        writer["connection"], sent = connection, 0
        try:
            while True:
                sent += connection.send(bytes(65536))
        except TimeoutError:
            writer["sent"] = sent
        except OSError:
            """The reader left."""

    upstream = serve_each(flood)
    server = gateway(lambda port: {"services": [service("flood", port_of(upstream), routes=[
        route("flood", ["tcp"], **to(port))])]})
    before = server.rss_kib()
    readers = [connect(server.stream[0]) for _ in range(8)]
    until(lambda: "sent" in writer, "the writer is held back", 20)
    # What the kernel's buffers hold, not what we do.
    assert writer["sent"] < 64 << 20
    assert server.rss_kib() - before < 8 << 10
    for reader in readers:
        reader.close()


def test_a_target_that_refuses_is_passed_over_and_told_of(gateway):
    upstream, (dead,) = answer_each(b""), free_ports(1)
    targets = [{"target": f"127.0.0.1:{port}"} for port in (dead, port_of(upstream))]
    server = gateway(lambda port: {
        "services": [{**service("db", 1, routes=[route("db", ["tcp"], **to(port))]), "host": "db.pool"}],
        "upstreams": [{"name": "db.pool", "targets": targets}]})
    for _ in range(4):
        with connect(server.stream[0]) as peer:
            assert ask(peer, b"x") == b"x"
    until(lambda: len(lines(server)) == 4, "all are logged", 10)
    tries = [line["tries"] for line in lines(server)]
    assert {len(each) for each in tries} <= {1, 2} and all("reason" not in line for line in lines(server))
    failed = next(each[0] for each in tries if len(each) == 2)
    assert (failed["port"], failed["state"], failed["reason"]) == (dead, "failed", "connect_refused")
    upstream.close()


def test_without_a_route_or_a_target_it_is_closed_with_a_reason(gateway):
    (dead,) = free_ports(1)
    server = gateway(lambda to_dead, _: {"services": [
        service("dead", dead, retries=1, routes=[route("dead", ["tcp"], **to(to_dead))])]}, listeners=2)
    for port in server.stream:
        with connect(port) as peer:
            assert is_closed(peer)
    until(lambda: len(lines(server)) == 2, "both are logged", 10)
    by_port = {line["session"]["server_port"]: line for line in lines(server)}
    refused, unrouted = (by_port[port] for port in server.stream)
    assert (refused["reason"], refused["session"]["status"], len(refused["tries"])) == ("connect_refused", 502, 2)
    assert (unrouted["reason"], unrouted["session"]["status"]) == ("no_route", 404)
    failures = metrics(server, "sluicegate_stream_session_failures_total")
    assert failures == {
        'sluicegate_stream_session_failures_total{route="dead",reason="connect_refused"}': 1,
        'sluicegate_stream_session_failures_total{route="",reason="no_route"}': 1}


def test_silence_ends_a_connection_after_the_service_s_read_timeout(gateway):
    upstream = answer_each(b"")
    server = gateway(lambda port: {"services": [service("db", port_of(upstream), read_timeout=200, routes=[
        route("db", ["tcp"], **to(port))])]})
    with connect(server.stream[0]) as peer:
        assert ask(peer, b"x") == b"x" and is_closed(peer)
    line = last_line(server)
    assert (line["reason"], line["session"]["status"]) == ("idle_timeout", 200)
    assert line["latencies"]["session"] >= 200


def test_routes_by_source_as_a_proxy_tells_it_and_by_expression(gateway):
    inner, outer, other = answer_each(b"inner "), answer_each(b"outer "), answer_each(b"other ")
    server = gateway(lambda port: {"services": [
        service("inner", port_of(inner), routes=[route("inner", ["tcp"], sources=[{"ip": "10.0.0.0/8"}])]),
        service("outer", port_of(outer), routes=[
            route("outer", ["tcp"], sources=[{"ip": "203.0.113.9", "port": 4000}])]),
        service("other", port_of(other), routes=[
            route("other", ["tcp"], expression=f"net.src.ip in 192.0.2.0/24 && net.dst.port == {port}")])]},
        proxy_protocol=True)

    def told(source, source_port, destination_port=5432):
        with connect(server.stream[0]) as peer:
            peer.sendall(f"PROXY TCP4 {source} 127.0.0.1 {source_port} {destination_port}\r\n".encode())
            return ask(peer, b"x")

    assert told("10.1.2.3", 1) == b"inner x"
    assert told("203.0.113.9", 4000) == b"outer x"
    assert told("192.0.2.1", 7, server.stream[0]) == b"other x"
    assert told("203.0.113.9", 4001) == b"" and told("192.0.2.1", 7) == b""
    until(lambda: len(lines(server)) == 5, "all are logged", 10)
    assert {line["client_ip"] for line in lines(server)} == {"10.1.2.3", "203.0.113.9", "192.0.2.1"}


def test_open_connections_stay_with_their_upstream_over_a_change(gateway):
    first, second = answer_each(b"first "), answer_each(b"second ")

    def leading_to(upstream):
        def made(port):
            return {"services": [service("db", port_of(upstream), routes=[route("db", ["tcp"], **to(port))])]}
        return made

    server = gateway(leading_to(first))
    with connect(server.stream[0]) as kept, connect(server.stream[0]) as silent:
        assert ask(kept, b"x") == b"first x"
        server.take_over(leading_to(second)(server.stream[0]))
        with connect(server.stream[0]) as fresh:
            assert ask(fresh, b"x") == b"second x"
        assert ask(kept, b"y") == b"first y" and ask(silent, b"z") == b"first z"


def test_the_end_of_the_server_is_not_held_up_by_silent_connections(gateway):
    upstream = answer_each(b"")
    server = gateway(lambda port: {"services": [service("db", port_of(upstream), routes=[
        route("db", ["tcp"], **to(port))])]})
    with connect(server.stream[0]) as peer:
        assert ask(peer, b"x") == b"x"
        stop = threading.Thread(target=server.stop)
        stop.start()
        assert is_closed(peer)
        stop.join(10)
    assert lines(server)[-1]["reason"] == "shutdown"


def test_the_admin_api_takes_routes_for_connections_and_refuses_what_does_not_fit(gateway):
    upstream = answer_each(b"")
    server = gateway(lambda _: {})

    def write(path, body):
        request = urllib.request.Request(server.url("admin", path), json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    made = {"name": "db", "protocol": "tcp", "host": "127.0.0.1", "port": port_of(upstream)}
    assert write("/services", made)[0] == 201
    matches = to(server.stream[0])
    assert write("/services/db/routes", {"name": "db", "protocols": ["tcp"], **matches})[0] == 201
    with connect(server.stream[0]) as peer:
        assert ask(peer, b"x") == b"x"
    status, said = write("/services/db/routes", {"name": "web", "protocols": ["http"], "paths": ["/"]})
    assert status == 400 and "one of `tcp` cannot serve a route of http" in said["message"], said
    status, said = write("/routes/db/plugins", {"name": "correlation-id"})
    assert (status, said["fields"]) == (400, {"protocols": "must match the associated route's protocols"})
