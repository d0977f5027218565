"""TLS through `listen.stream`: ended by the listener, or passed through by its server name so that the client sees the
upstream's own certificate; TLS of our own to an upstream; and what is no TLS."""

import socket
import ssl

import pytest
import trustme

from harness.ports import free_ports
from harness.server import Server
from harness.streams import (
    answer_each, ask, certificate, connect, is_closed, lines, port_of, route, service, tls_echo, trusting,
)
from harness.wait import until

pytestmark = pytest.mark.ours

UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"


class Tls:
    """A server with one listener for TLS in front of services that each trust nobody but their own authority."""

    def __init__(self, folder):
        self.ours, self.theirs = trustme.CA(), trustme.CA()
        (self.port,) = free_ports(1)
        self.upstreams = {name: tls_echo(self.theirs, name) for name in ("a.pass.test", "b.pass.test", "inside.test")}
        self.plain = answer_each(b"plain ")
        up = {name: port_of(listening) for name, listening in self.upstreams.items()}
        self.server = Server(folder / "server", {
            "telemetry": {"access_log": "stdout"},
            "ca_certificates": [{"id": "5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11",
                                 "cert": self.theirs.cert_pem.bytes().decode()}],
            "services": [
                service("a", up["a.pass.test"], "tls_passthrough", [
                    route("a", ["tls_passthrough"], snis=["a.pass.test"])]),
                service("b", up["b.pass.test"], "tls_passthrough", [
                    route("b", ["tls_passthrough"], snis=["*.pass.test"])]),
                service("plain", port_of(self.plain), "tcp", [route("plain", ["tls"], snis=["ends.test"])]),
                service("inside", up["inside.test"], "tls", [
                    route("inside", ["tls"], snis=["inside.test"], preserve_host=True)],
                    tls_verify=True, ca_certificates=["5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11"]),
                service("strange", up["inside.test"], "tls", [route("strange", ["tls"], snis=["strange.test"])],
                        tls_verify=True, ca_certificates=["5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11"]),
            ]}, listen={"stream": [{"address": f"127.0.0.1:{self.port}", "tls": certificate(
                folder, self.ours, "ends.test", "inside.test", "strange.test")}]}, with_definitions=False)
        self.server.start()

    def as_client(self, name, authority):
        return trusting(authority).wrap_socket(connect(self.port), server_hostname=name)

    def lines(self, count=1):
        """The lines of the access log since the test began, when there are as many."""
        until(lambda: len(lines(self.server)) >= self.logged + count, f"there are {count} lines", 10)
        return lines(self.server)[self.logged:]

    def reason(self, count=1):
        return self.lines(count)[-1]["reason"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    tls = Tls(tmp_path_factory.mktemp("tls"))
    yield tls
    tls.server.close()


@pytest.fixture
def tls(shared):
    shared.logged = len(lines(shared.server))
    return shared


def test_by_server_name_it_passes_through_or_ends_here(tls):
    for name, authority, said in [("a.pass.test", tls.theirs, b"a.pass.test x"), ("ends.test", tls.ours, b"plain x"),
                                  ("inside.test", tls.ours, b"inside.test x")]:
        with tls.as_client(name, authority) as peer:
            assert ask(peer, b"x") == said
    # Another name than that of its certificate: the client finds out, for it talks to the upstream.
    with pytest.raises(ssl.SSLCertVerificationError):
        tls.as_client("c.pass.test", tls.theirs)
    with tls.as_client("b.pass.test", tls.theirs) as peer:
        assert ask(peer, b"x") == b"b.pass.test x"
    shown = {(line["session"]["tls"]["sni"], line["session"]["protocol"], line["service"]["name"])
             for line in tls.lines(5)}
    assert shown == {("a.pass.test", "tls_passthrough", "a"), ("ends.test", "tls", "plain"),
                     ("inside.test", "tls", "inside"), ("c.pass.test", "tls_passthrough", "b"),
                     ("b.pass.test", "tls_passthrough", "b")}


def test_an_upstream_that_cannot_be_trusted_gets_nothing(tls):
    # It is asked for as 127.0.0.1, which its certificate does not name.
    with tls.as_client("strange.test", tls.ours) as peer:
        assert ask(peer, b"secret") == b""
    assert tls.reason() == "tls_failed"


@pytest.mark.parametrize("named", [b"nobody.test", None])
def test_a_name_that_nobody_has_is_told_so(tls, named):
    context = ssl.create_default_context()
    context.check_hostname = named is not None
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized"):
        context.wrap_socket(connect(tls.port), server_hostname=named and named.decode())
    assert tls.reason() == "no_route"


def hello(name):
    """A ClientHello as bytes."""
    out = ssl.MemoryBIO()
    client = trusting(trustme.CA()).wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def in_records(message, size):
    """The same handshake message, cut into records."""
    body = message[5:]
    pieces = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("size, piece", [(20_000, 1), (1, 4096), (37, 100)])
def test_a_hello_is_understood_however_it_is_cut(tls, size, piece):
    cut = in_records(hello("a.pass.test"), size)
    with connect(tls.port) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(cut), piece):
            peer.sendall(cut[at:at + piece])
        # The upstream's own answer: a ServerHello, or that it does not like records of one byte.
        assert peer.recv(5)[:1] in (b"\x16", b"\x15")
    (line,) = tls.lines()
    assert (line["service"]["name"], line["session"]["received"]) == ("a", len(cut))


@pytest.mark.parametrize("what", [
    b"GET / HTTP/1.1\r\nHost: ends.test\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x80" * 100,
    b"\x16\x03\x01\x00\x00" * 50])
def test_what_is_no_tls_is_refused(tls, what):
    with connect(tls.port) as peer:
        peer.sendall(what)
        assert peer.recv(1) == b"\x15", "an alert"
    assert tls.reason() == "client_tls"


def test_an_endless_hello_is_cut_off_and_an_unfinished_one_too(tls):
    with connect(tls.port) as peer:
        endless = b"\x01\x00\xff\xff" + bytes(40_000)
        try:
            peer.sendall(in_records(bytes(5) + endless, 16_000))
        except (ConnectionResetError, BrokenPipeError):
            """It did not take all of it."""
        assert is_closed(peer)
    assert tls.reason() == "client_tls"
    with connect(tls.port) as peer:
        peer.sendall(hello("a.pass.test")[:-1])
        peer.shutdown(socket.SHUT_WR)
        assert is_closed(peer)
    assert tls.reason(2) == "client_left"


def test_a_listener_without_a_certificate_passes_through_only(start_server):
    theirs = trustme.CA()
    upstream, (port,) = tls_echo(theirs, "a.test"), free_ports(1)
    start_server({"services": [
        service("a", port_of(upstream), "tls_passthrough", [route("a", ["tls_passthrough"], snis=["a.test"])]),
        service("b", port_of(upstream), "tcp", [route("b", ["tls"], snis=["b.test"])])]},
        listen={"stream": [{"address": f"127.0.0.1:{port}", "tls": {}}]}, with_definitions=False)
    with trusting(theirs).wrap_socket(connect(port), server_hostname="a.test") as peer:
        assert ask(peer, b"x") == b"a.test x"
    with connect(port) as peer:
        assert ask(peer, hello("b.test")) == UNRECOGNIZED_NAME


def test_who_stops_in_the_handshake_takes_nobody_s_place(start_server, tmp_path):
    ours, upstream, (port,) = trustme.CA(), answer_each(b""), free_ports(1)
    target = f"127.0.0.1:{port_of(upstream)}"
    server = start_server({
        "telemetry": {"access_log": "stdout"},
        "services": [{**service("db", 1, routes=[route("db", ["tls"], snis=["ends.test"])]), "host": "db.pool"}],
        "upstreams": [{"name": "db.pool", "targets": [{"target": target}],
                       "resilience": {"bulkhead": {"max_requests": 1}}}]},
        listen={"stream": [{"address": f"127.0.0.1:{port}", "tls": certificate(tmp_path, ours, "ends.test")}]},
        with_definitions=False)
    with connect(port) as silent:
        silent.sendall(hello("ends.test"))
        assert silent.recv(1) == b"\x16", "a ServerHello, which gets no answer"
        with trusting(ours).wrap_socket(connect(port), server_hostname="ends.test") as peer:
            assert ask(peer, b"x") == b"x"
            with trusting(ours).wrap_socket(connect(port), server_hostname="ends.test") as late:
                assert is_closed(late)
    until(lambda: len(lines(server)) == 3, "all are logged", 10)
    assert {line.get("reason") for line in lines(server)} == {None, "bulkhead_full", "client_tls"}
