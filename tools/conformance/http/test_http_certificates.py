"""Certificates, their server names, trust anchors and client certificates as entities: what a listener shows to whom, what an
upstream is shown, and changes of both while connections go on."""

import http.client
import json
import socket
import ssl

import pytest
import trustme
from cryptography import x509

from harness.http_client import request
from harness.keys import tls_files
from harness.ports import free_ports
from harness.server import Server, run_cli
from harness.upstream import Upstream, send
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


class Secure(Upstream):
    """An HTTPS upstream that wants a certificate of `authority` from its clients, and remembers what they showed."""

    def __init__(self, certificate, authority):
        self.shown = []
        super().__init__(self.keep)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        authority.configure_trust(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "https"

    def keep(self, handler, seen):
        if hasattr(handler.connection, "getpeercert"):
            self.shown.append(handler.connection.getpeercert(binary_form=True))
        send(handler, 200, b"ok")

    def showed(self):
        with self.lock:
            return self.shown[-1]


def ask(kong, path, connection=None):
    return request(kong.server.ports["http"], "GET", path, connection=connection).status


@pytest.fixture
def plain(tmp_path):
    """A server with a plain listener."""
    kong = Kong.__new__(Kong)
    kong.server = Server(tmp_path / "server").start()
    yield kong
    kong.server.close()


def test_an_upstream_is_shown_the_certificate_of_its_service_or_of_its_targets(plain):
    authority = trustme.CA()
    first, second = (pair("client.example", authority=authority) for _ in range(2))
    with Secure(authority.issue_cert("127.0.0.1"), authority) as upstream:
        ids = [plain.admin("POST", "/certificates", {"cert": cert, "key": key})["id"] for cert, key in (first, second)]
        plain.admin("PUT", "/services/own", {"url": upstream.url(), "client_certificate": {"id": ids[0]}})
        plain.admin("PUT", "/services/nobody", {"url": upstream.url()})
        plain.admin("PUT", "/upstreams/pool.internal", {"client_certificate": {"id": ids[1]}})
        plain.admin("POST", "/upstreams/pool.internal/targets", {"target": f"127.0.0.1:{upstream.port}"})
        for name in ("pool", "both"):
            plain.admin("PUT", f"/services/{name}", {"protocol": "https", "host": "pool.internal"})
        plain.admin("PATCH", "/services/both", {"client_certificate": {"id": ids[0]}})
        for name in ("own", "nobody", "pool", "both"):
            plain.admin("PUT", f"/routes/{name}", {"paths": [f"/{name}"], "service": {"name": name}})
        shown = {}
        for name in ("own", "nobody", "pool", "both"):
            assert ask(plain, f"/{name}") == 200
            shown[name] = upstream.showed()
        assert shown == {"own": der(first[0]), "nobody": None, "pool": der(second[0]), "both": der(first[0])}
        # Another certificate under the same id.
        third = pair("client.example", authority=authority)
        plain.admin("PATCH", f"/certificates/{ids[1]}", {"cert": third[0], "key": third[1]})
        assert ask(plain, "/pool") == 200 and upstream.showed() == der(third[0])
        # What is in use stays.
        for at, kind in enumerate(("services", "upstreams")):
            refused = plain.admin("DELETE", f"/certificates/{ids[at]}", status=400)
            words = f"an existing '{kind}' entity references this 'certificates' entity"
            assert refused == {"code": 4, "name": "foreign key violation", "message": words,
                               "fields": {"@referenced_by": kind}}


def test_probes_show_the_certificate_of_their_upstream(plain):
    authority = trustme.CA()
    cert, key = pair("client.example", authority=authority)
    with Secure(authority.issue_cert("127.0.0.1"), authority) as upstream:
        certificate = plain.admin("POST", "/certificates", {"cert": cert, "key": key})
        plain.admin("PUT", "/upstreams/pool.internal", {
            "client_certificate": {"id": certificate["id"]}, "healthchecks": {"active": {
                "type": "https", "https_verify_certificate": False, "healthy": {"interval": 0.05, "successes": 1}}}})
        plain.admin("POST", "/upstreams/pool.internal/targets", {"target": f"127.0.0.1:{upstream.port}"})
        until(lambda: upstream.shown, "a probe came", 10)
        assert upstream.showed() == der(cert)


def test_tls_verify_and_its_depth_are_enforced(plain):
    root = trustme.CA()
    short, middle = root, root.create_child_ca()
    long = middle.create_child_ca()
    other = trustme.CA().cert_pem.bytes().decode()
    anchors = {name: plain.admin("POST", "/ca_certificates", {"cert": cert})["id"]
               for name, cert in (("root", root.cert_pem.bytes().decode()), ("other", other))}
    with Secure(short.issue_cert("127.0.0.1"), root) as direct, Secure(long.issue_cert("127.0.0.1"), root) as far:
        def status(upstream, **fields):
            plain.admin("PUT", "/services/s", {"url": upstream.url(), "retries": 0, **fields})
            plain.admin("PUT", "/routes/s", {"paths": ["/"], "service": {"name": "s"}})
            return ask(plain, "/")

        trusted = {"tls_verify": True, "ca_certificates": [anchors["root"]]}
        assert status(direct, **trusted) == 200 and status(direct, **trusted, tls_verify_depth=0) == 200
        assert status(direct, tls_verify=True, ca_certificates=[anchors["other"]]) == 502
        assert status(direct, tls_verify=False, ca_certificates=[anchors["other"]]) == 200
        # Between the upstream's certificate and the root are two others.
        assert [status(far, **trusted, tls_verify_depth=depth) for depth in (0, 1, 2)] == [502, 502, 200]
        assert status(far, **trusted) == 200
        refused = plain.admin("DELETE", f"/ca_certificates/{anchors['root']}", status=400)
        service = plain.admin("GET", "/services/s")["id"]
        words = f"ca certificate {anchors['root']} is still referenced by services (id = {service})"
        assert refused == {"code": 19, "name": "referenced by others", "message": words}
        plain.admin("DELETE", f"/ca_certificates/{anchors['other']}")


def test_authorities_of_the_system_that_come_later_are_found(start_server, tmp_path):
    authority, system = trustme.CA(), tmp_path / "system.pem"
    with Secure(authority.issue_cert("127.0.0.1"), authority) as upstream:
        checks = {"active": {"type": "https", "http_path": "/probe", "healthy": {"interval": 0.1, "successes": 1}}}
        target = {"target": f"127.0.0.1:{upstream.port}"}
        catalogue = {"type": "consul", "address": f"https://127.0.0.1:{upstream.port}", "service": "x"}
        server = start_server({"services": [{"name": "s", "url": upstream.url(), "tls_verify": True, "retries": 0,
                                             "routes": [{"name": "s", "paths": ["/"]}]}],
                               "upstreams": [{"name": "probed", "healthchecks": checks, "targets": [target]},
                                             {"name": "listed", "discovery": catalogue}]},
                              env={"SSL_CERT_FILE": str(system), "SSL_CERT_DIR": str(tmp_path / "none")})

        def status():
            return request(server.ports["http"], "GET", "/").status

        def is_asked(path):
            with upstream.lock:
                return any(seen.path.startswith(path) for seen in upstream.seen)

        assert status() == 503 and upstream.connections == 0
        assert "the system has no trusted certificate authorities" in server.stderr()
        authority.cert_pem.write_to_path(system)
        until(lambda: status() == 200, "they are looked for again", 10)
        until(lambda: is_asked("/probe"), "and for probes", 10)
        until(lambda: is_asked("/v1/health/service/x"), "and for catalogues, behind a few seconds", 20)
        system.unlink()
        assert status() == 200, "and kept"


def test_kept_tls_connections_stay_while_their_settings_do(plain):
    authority = trustme.CA()
    with Secure(authority.issue_cert("127.0.0.1"), authority) as upstream:
        anchor = plain.admin("POST", "/ca_certificates", {"cert": authority.cert_pem.bytes().decode()})["id"]
        plain.admin("PUT", "/services/s", {"url": upstream.url(), "tls_verify": True, "ca_certificates": [anchor]})
        plain.admin("PUT", "/routes/s", {"paths": ["/"], "service": {"name": "s"}})
        # One connection of a client is served by one thread, which has its own connections to upstreams.
        client = http.client.HTTPConnection("127.0.0.1", plain.server.ports["http"], timeout=10)
        for change in ({"read_timeout": 5000}, {"tags": ["x"]}, {"retries": 1}):
            assert ask(plain, "/", client) == 200
            plain.admin("PATCH", "/services/s", change)
            plain.admin("POST", "/consumers", {"username": f"of {change}"})
        assert ask(plain, "/", client) == 200 and upstream.connections == 1
        plain.admin("PATCH", "/services/s", {"tls_verify_depth": 3})
        assert ask(plain, "/", client) == 200 and upstream.connections == 2
        client.close()


def test_references_to_vaults_stand_for_variables_and_are_what_is_shown(tmp_path):
    first, second = pair("a.example"), pair("b.example")
    env = {"SITE_CERT": first[0], "SITE_KEY": first[1], "BOTH": json.dumps({"cert": second[0], "key": second[1]})}
    kong = Kong(tmp_path, {"certificates": [
        {"cert": "{vault://env/site-cert}", "key": "{vault://env/site-key}", "snis": [{"name": "a.example"}]}]}, env=env)
    try:
        assert kong.shown("a.example") == der(first[0])
        vault = kong.admin("POST", "/vaults", {"prefix": "my-env", "name": "env", "config": {"prefix": "SITE_"}})
        both = {"cert": "{vault://env/both/cert}", "key": "{vault://env/both/key}", "snis": ["b.example"]}
        made = kong.admin("POST", "/certificates", both)
        assert kong.shown("b.example") == der(second[0])
        kong.admin("PATCH", "/certificates/b.example", {"cert": "{vault://my-env/cert}", "key": "{vault://my-env/key}"})
        assert kong.shown("b.example") == der(first[0])
        shown = kong.admin("GET", "/certificates")["data"] + [kong.admin("GET", "/config"), made]
        assert "PRIVATE KEY" not in json.dumps(shown) and "{vault://my-env/key}" in json.dumps(shown)

        # What cannot be resolved changes nothing; a vault in use neither.
        refused = kong.admin("PATCH", "/certificates/b.example", {"key": "{vault://env/nobody}"}, status=400)
        words = "key: cannot resolve {vault://env/nobody}: the environment has no variable `NOBODY`"
        assert refused["fields"] == {"@entity": [words]}
        refused = kong.admin("DELETE", f"/vaults/{vault['id']}", status=400)
        assert "there is no vault `my-env`" in refused["message"]
        for name in ("hcv", "aws", "gcp", "azure"):
            refused = kong.admin("POST", "/vaults", {"prefix": "other", "name": name}, status=400)
            assert refused["fields"] == {"name": f"vault '{name}' is not installed"}
        kong.server.restart()
        assert kong.shown("a.example") == der(first[0]) and kong.shown("b.example") == der(first[0])
        assert "PRIVATE KEY" not in kong.server.stderr()
    finally:
        kong.server.close()


def test_a_file_with_a_reference_to_nothing_is_refused_with_its_place(tmp_path):
    cert = pair("a.example")[0]
    file = tmp_path / "kong.json"
    file.write_text(json.dumps({"_format_version": "3.0", "certificates": [
        {"cert": cert, "key": "{vault://env/NO_SUCH_VARIABLE}"}]}, indent=1))
    done = run_cli("check", str(file))
    assert done.returncode != 0
    assert "kong.json:" in done.stderr and "`key` in a certificate" in done.stderr, done.stderr
    assert "{vault://env/NO_SUCH_VARIABLE}: the environment has no variable `NO_SUCH_VARIABLE`" in done.stderr


def test_who_the_caller_proved_to_be_is_in_the_access_log(tmp_path):
    authority = trustme.CA()
    client = authority.issue_cert("client.example", common_name="client, of us", organization_name="Example")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    log = tmp_path / "access.log"
    (strict, easy), files = free_ports(2), tls_files(tmp_path)
    server = Server(tmp_path / "server", {"telemetry": {"access_log": str(log)}}, listen={"http": [
        {"address": f"127.0.0.1:{strict}", "tls": {**files, "client_ca": str(tmp_path / "ca.pem")}},
        {"address": f"127.0.0.1:{easy}", "tls": files}]}).start()
    try:
        for port in (strict, easy):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.configure_cert(context)
            peer = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
            peer.request("GET", "/nothing")
            assert peer.getresponse().status == 404
            cipher = peer.sock.cipher()[0]
            peer.close()
        until(lambda: log.read_text().count("\n") == 2, "both are in the log", 10)
        first, second = (json.loads(line)["request"]["tls"] for line in log.read_text().splitlines())
        serial = f"{client_serial(client):X}"
        assert first == {"version": "TLSv1.3", "cipher": cipher, "client_verify": "SUCCESS", "client": {
            "subject": first["client"]["subject"], "issuer": first["client"]["issuer"],
            "serial": serial if len(serial) % 2 == 0 else "0" + serial}}
        assert "CN=client\\, of us" in first["client"]["subject"] and "O=Example" in first["client"]["subject"]
        assert "trustme" in first["client"]["issuer"]
        assert second == {"version": "TLSv1.3", "cipher": cipher, "client_verify": "NONE"}
    finally:
        server.close()


def client_serial(certificate):
    pem = certificate.cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(pem).serial_number
