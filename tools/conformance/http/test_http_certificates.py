"""Certificates, their server names, trust anchors and client certificates as entities: what a listener shows to whom, what an
upstream is shown, and changes of both while connections go on."""

import json
import socket
import ssl

import pytest
import trustme

from harness.http_client import request
from harness.keys import tls_files
from harness.ports import free_ports
from harness.server import Server
from harness.wait import until

pytestmark = pytest.mark.ours


def pair(*names, key_type=trustme.KeyType.ECDSA, authority=None):
    """A certificate for these names and its key."""
    made = (authority or trustme.CA()).issue_cert(*names, common_name=names[0], key_type=key_type)
    return "".join(pem.bytes().decode() for pem in made.cert_chain_pems), made.private_key_pem.bytes().decode()


def der(pem):
    """The first certificate of a chain as it comes in a handshake."""
    return ssl.PEM_cert_to_DER_cert(pem[:pem.index("-----END") + 25] + "\n")


class Kong:
    """A server with a TLS listener, and its Admin API."""

    def __init__(self, folder, config=None, env=None):
        (self.port,) = free_ports(1)
        self.files = tls_files(folder)
        self.own = der(open(self.files["cert"]).read())
        self.server = Server(folder / "server", config, env=env, listen={
            "http": [{"address": f"127.0.0.1:{self.port}", "tls": self.files}]})
        self.server.start()

    def admin(self, method, path, body=None, status=None):
        text = None if body is None else json.dumps(body)
        answer = request(self.server.ports["admin"], method, path, text, {"Content-Type": "application/json"})
        assert answer.status in ([status] if status else (200, 201, 204)), answer
        return json.loads(answer.text) if answer.text else None

    def connect(self, name, adjust=lambda context: None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        adjust(context)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=10), server_hostname=name)

    def shown(self, name, adjust=lambda context: None):
        """The certificate that a client gets that asks for this name."""
        with self.connect(name, adjust) as peer:
            return peer.getpeercert(binary_form=True)


@pytest.fixture
def kong(tmp_path):
    kong = Kong(tmp_path)
    yield kong
    kong.server.close()


def test_the_closest_name_has_the_say_and_changes_hold_from_the_next_handshake(kong):
    assert kong.shown("a.example.com") == kong.own
    exact, wild, right, every = (pair(name) for name in ("a.example.com", "*.example.com", "example.org", "example.net"))
    ids = [kong.admin("POST", "/certificates", {"cert": cert, "key": key, "snis": [name]})["id"]
           for name, (cert, key) in (("a.example.com", exact), ("*.example.com", wild), ("example.*", right))]
    shown = {name: kong.shown(name) for name in ("a.example.com", "A.EXAMPLE.com", "b.example.com", "example.org",
                                                 "x.b.example.com", "other.net")}
    assert shown == {"a.example.com": der(exact[0]), "A.EXAMPLE.com": der(exact[0]), "b.example.com": der(wild[0]),
                     "example.org": der(right[0]), "x.b.example.com": kong.own, "other.net": kong.own}
    kong.admin("POST", "/certificates", {"cert": every[0], "key": every[1], "snis": ["*"]})
    assert kong.shown("other.net") == der(every[0])
    # Who names nothing gets the listener's own, as in Kong.
    assert kong.shown(None) == kong.own

    with kong.connect("a.example.com") as kept:
        fresh = pair("a.example.com")
        kong.admin("PATCH", f"/certificates/{ids[0]}", {"cert": fresh[0], "key": fresh[1]})
        assert kong.shown("a.example.com") == der(fresh[0])
        # The name moves to another certificate.
        kong.admin("PATCH", "/snis/a.example.com", {"certificate": {"id": ids[1]}})
        assert kong.shown("a.example.com") == der(wild[0])
        kong.admin("DELETE", f"/certificates/{ids[1]}")
        assert {sni["name"] for sni in kong.admin("GET", "/snis")["data"]} == {"*", "example.*"}
        assert kong.shown("a.example.com") == der(every[0])
        kept.sendall(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 404")
    kong.server.restart()
    assert kong.shown("other.net") == der(every[0]), "what the API wrote is kept"


def test_a_key_of_another_certificate_changes_nothing(kong):
    cert, key = pair("a.example")
    one = kong.admin("POST", "/certificates", {"cert": cert, "key": key, "snis": ["a.example"]})
    for method, path in (("PATCH", f"/certificates/{one['id']}"), ("POST", "/certificates")):
        body = {"cert": cert, "key": pair("a.example")[1]}
        refused = kong.admin(method, path, body, status=400)
        assert refused == {"code": 2, "name": "schema violation", "fields": {"@entity": ["certificate does not match key"]},
                           "message": "schema violation (certificate does not match key)"}
    assert kong.shown("a.example") == der(cert)


def test_of_two_pairs_the_client_gets_the_one_it_can_use(kong):
    authority = trustme.CA()
    ecdsa = pair("both.example", authority=authority)
    rsa = pair("both.example", key_type=trustme.KeyType.RSA, authority=authority)
    kong.admin("POST", "/certificates", {"cert": rsa[0], "key": rsa[1], "cert_alt": ecdsa[0], "key_alt": ecdsa[1],
                                         "snis": ["both.example"]})

    def tls_1_2(suites):
        def adjust(context):
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(suites)
        return adjust

    assert kong.shown("both.example") == der(ecdsa[0])
    assert kong.shown("both.example", tls_1_2("ECDHE-ECDSA-AES128-GCM-SHA256")) == der(ecdsa[0])
    assert kong.shown("both.example", tls_1_2("ECDHE-RSA-AES128-GCM-SHA256")) == der(rsa[0])


def test_paths_of_certificates_and_their_names(kong):
    cert, key = pair("a.example")
    one = kong.admin("PUT", "/certificates/a.example", {"cert": cert, "key": key})
    assert one["snis"] == ["a.example"], "a name in the path is one of its own"
    assert kong.admin("GET", "/certificates/a.example") == one
    kong.admin("POST", f"/certificates/{one['id']}/snis", {"name": "b.example"})
    assert kong.admin("GET", "/certificates/b.example")["snis"] == ["a.example", "b.example"]
    names = {sni["name"] for sni in kong.admin("GET", "/certificates/a.example/snis")["data"]}
    assert names == {"a.example", "b.example"}
    assert kong.admin("GET", "/certificates/a.example/snis/b.example")["certificate"] == {"id": one["id"]}
    taken = kong.admin("POST", "/certificates", {"cert": cert, "key": key, "snis": ["b.example"]}, status=400)
    assert taken["fields"] == {"snis": f"b.example already associated with existing certificate '{one['id']}'"}
    # Kong's: a certificate is found by the name of an SNI instead.
    kong.admin("GET", "/snis/a.example/certificate", status=404)
    kong.admin("DELETE", "/certificates/b.example")
    assert kong.admin("GET", "/snis")["data"] == [] and kong.shown("a.example") == kong.own


def test_the_file_has_certificates_too_and_a_reload_changes_them(tmp_path):
    first, second = pair("a.example"), pair("a.example")

    def config(cert, key):
        return {"certificates": [{"cert": cert, "key": key, "snis": [{"name": "a.example"}]}]}

    kong = Kong(tmp_path, config(*first))
    try:
        assert kong.shown("a.example") == der(first[0])
        kong.server.take_over(config(*second))
        assert kong.shown("a.example") == der(second[0])
        # A key that does not belong to it is told, and the old stays.
        kong.server.write_config(config(first[0], second[1]))
        kong.server.reload()
        until(lambda: "reload refused" in kong.server.stderr(), "it was told", 10)
        assert "certificate does not match key" in kong.server.stderr()
        assert kong.shown("a.example") == der(second[0])
    finally:
        kong.server.close()
