"""The TLS of a listener over its life: new certificate files on a reload without an end to any connection, files that cannot
be used, and sessions that are resumed."""

import http.client
import socket
import ssl

import pytest
import trustme

from harness.ports import free_ports
from harness.server import Server
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours


def write(folder, certificate):
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    (folder / "key.pem").write_bytes(certificate.private_key_pem.bytes())


@pytest.fixture
def server(tmp_path):
    authority = trustme.CA()
    write(tmp_path, authority.issue_cert("localhost"))
    (port,) = free_ports(1)
    with Upstream() as upstream:
        server = Server(tmp_path / "server", {"services": [
            {"name": "echo", "url": upstream.url(), "routes": [{"name": "echo", "paths": ["/"]}]}]}, listen={
            "http": [{"address": f"127.0.0.1:{port}", "tls": {
                "cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}}]})
        server.port, server.authority, server.files = port, authority, tmp_path
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(server.context)
        server.start()
        yield server
        server.close()


def connect(server, session=None):
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    return server.context.wrap_socket(plain, server_hostname="localhost", session=session)


def ask(peer):
    peer.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    response = http.client.HTTPResponse(peer)
    response.begin()
    response.read()
    return response.status


def reload(server):
    said = server.stderr().count("configuration reloaded")
    server.reload()
    until(lambda: server.stderr().count("configuration reloaded") > said, "the reload is done", 30)


def serial(server):
    with connect(server) as peer:
        assert ask(peer) == 200
        return peer.getpeercert()["serialNumber"]


def test_new_files_are_shown_from_the_next_handshake_on(server):
    before = serial(server)
    with connect(server) as kept:
        assert ask(kept) == 200
        write(server.files, server.authority.issue_cert("localhost"))
        assert serial(server) == before
        reload(server)
        assert serial(server) != before
        assert ask(kept) == 200


def test_files_that_cannot_be_used_change_nothing(server):
    before = serial(server)
    # A key of another certificate.
    (server.files / "key.pem").write_bytes(server.authority.issue_cert("localhost").private_key_pem.bytes())
    reload(server)
    assert serial(server) == before
    assert "key.pem: " in server.stderr() and "the old certificate stays in force" in server.stderr()
    (server.files / "cert.pem").write_text("nothing")
    server.reload()
    until(lambda: server.stderr().count("the old certificate stays in force") > 1, "it was told", 10)
    assert serial(server) == before


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_by_tickets_also_after_a_reload(server, version):
    server.context.minimum_version = server.context.maximum_version = version
    with connect(server) as first:
        # The ticket of TLS 1.3 comes behind the handshake.
        assert ask(first) == 200 and not first.session_reused
        session = first.session
        assert session.has_ticket
    with connect(server, session) as second:
        assert ask(second) == 200 and second.session_reused
        session = second.session
    reload(server)
    with connect(server, session) as third:
        assert ask(third) == 200 and third.session_reused
