"""Routes with an expression (Kong's `expressions` router) beside classic ones, and paths in Kong's normal form."""

import socket

import pytest

from harness.http_client import request
from harness.keys import tls_files
from harness.ports import free_ports
from harness.server import Server
from harness.upstream import Upstream

pytestmark = pytest.mark.ours

#: name, expression, priority, further fields
EXPRESSIONS = [
    ("method", 'http.path ^= "/e" && http.method == "PUT"', 9, {}),
    ("header", 'http.path ^= "/e" && any(lower(http.headers.x_tenant)) == "acme"', 8, {}),
    ("query", 'http.path ^= "/e" && http.queries.v == "a b"', 7, {}),
    ("either", 'http.path == "/e/one" || http.path == "/e/two"', 6, {}),
    ("segments", 'http.path.segments.0_1 == "e/seg" && http.path.segments.len == 3', 5, {}),
    ("regex", r'http.path ~ r#"^/e/\d+/"#', 4, {}),
    ("host", 'http.host =^ ".example.com" && http.path ^= "/e"', 3, {}),
    ("source", 'net.src.ip in 127.0.0.0/8 && net.src.port > 0 && http.path ^= "/e/local"', 2, {}),
    ("port", 'net.dst.port == 4711 && http.path ^= "/e"', 1, {}),
    ("plain", 'net.protocol == "http" && http.path ^= "/e/scheme"', 0, {"strip_path": False}),
    ("secure", 'tls.sni == "localhost" && http.path ^= "/e/scheme"', 0, {"protocols": ["https"]}),
    ("not", '!(http.method == "GET") && http.path ^= "/n"', 0, {}),
    ("first", 'http.path ^= "/both"', 0, {}),
]
CLASSIC = [
    {"name": "prefix", "paths": ["/e"]},
    {"name": "better", "paths": ["/both/and/more"], "methods": ["GET"], "hosts": ["127.0.0.1"]},
    {"name": "umlaut", "paths": ["~/caf\u00e9 au"]},
    {"name": "port-of-host", "hosts": ["ports.test:81"]},
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expressions")
    files = tls_files(folder)
    plain, tls = free_ports(2)
    with Upstream() as upstream:
        routes = [{"name": name, "expression": text, "priority": priority, **more}
                  for name, text, priority, more in EXPRESSIONS] + CLASSIC
        server = Server(folder / "server", {"services": [
            {"name": route["name"], "url": upstream.url("/" + route["name"]), "routes": [route]} for route in routes]},
            listen={"http": [f"127.0.0.1:{plain}", {"address": f"127.0.0.1:{tls}", "tls": files}]})
        server.ports.update(http=plain, tls=tls)
        server.start()
        yield server
        server.close()


@pytest.mark.parametrize("method, target, headers, expected", [
    ("PUT", "/e/x", {"X-Tenant": "acme"}, "/method/x"),
    ("GET", "/e/x", {"X-Tenant": "ACME"}, "/header/x"),
    ("GET", "/e/x", [("X-Tenant", "other"), ("X-Tenant", "Acme")], "/header/x"),
    ("GET", "/e/x?v=a+b", {}, "/query/x"),
    ("GET", "/e/x?w=1&v=a%20b", {}, "/query/x"),
    ("GET", "/e/x?v=a+b&v=c", {}, "/prefix/x"),
    ("GET", "/e/two", {}, "/either"),
    ("GET", "/e/seg/1", {}, "/segments/e/seg/1"),
    ("GET", "/e/seg/1/2", {}, "/prefix/seg/1/2"),
    ("GET", "/e/12/x", {}, "/regex/x"),
    ("GET", "/e/x", {"Host": "A.Example.COM"}, "/host/x"),
    ("GET", "/e/local/x", {}, "/source/x"),
    ("GET", "/e/x", {"Host": "h:4711"}, "/port/x"),
    ("GET", "/e/scheme/x", {}, "/plain/e/scheme/x"),
    ("PUT", "/n/x", {}, "/not/x"),
    ("GET", "/both/and/more", {}, "/first/and/more"),
    ("GET", "/e/x", {}, "/prefix/x"),
    ("GET", "/caf%C3%A9%20au/lait%20%c3%a9", {}, "/umlaut/lait%20%C3%A9"),
    ("GET", "/anything", {"Host": "ports.test:81"}, "/port-of-host/anything"),
])
def test_which_route_wins_and_what_path_the_upstream_sees(gateway, method, target, headers, expected):
    answer = request(gateway.ports["http"], method, target, headers=headers)
    assert answer.status == 200, answer
    assert (answer.json["method"], answer.json["path"]) == (method, expected)


@pytest.mark.parametrize("method, target, host", [("GET", "/n/x", "a"), ("GET", "/anything", "ports.test"), ("GET", "/E", "a")])
def test_no_route(gateway, method, target, host):
    answer = request(gateway.ports["http"], method, target, headers={"Host": host})
    assert (answer.status, answer.json["message"]) == (404, "no Route matched with those values")


def test_a_plain_request_to_an_expression_for_https_is_told_to_upgrade(tmp_path):
    (port,) = free_ports(1)
    server = Server(tmp_path, {"routes": [{"expression": 'http.path == "/s"', "protocols": ["https"]}]},
                    listen={"http": [f"127.0.0.1:{port}"]})
    server.start()
    answer = request(port, "GET", "/s")
    assert (answer.status, answer.json["message"]) == (426, "Please use HTTPS protocol")
    server.close()


@pytest.mark.parametrize("target", ["/e/100%", "/e/%zz", "/e/%%361", "/e/%00"])
def test_a_path_that_is_encoded_wrongly_is_a_bad_request(gateway, target):
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), timeout=5) as s:
        s.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        came = b""
        while piece := s.recv(65536):
            came += piece
    assert came.startswith(b"HTTP/1.1 400 "), came
    assert b"Bad request" in came
