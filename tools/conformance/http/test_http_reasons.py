"""Why a request failed: in `Proxy-Status` (RFC 9209), in the access log and in a counter."""

import json
import re
import threading

import pytest

from harness.http_client import request
from harness.ports import free_ports
from harness.upstream import Upstream, send
from harness.wait import until

pytestmark = pytest.mark.ours


def failures(server):
    """Reasons that were counted, and how often."""
    text = request(server.ports["admin"], "GET", "/metrics").text
    found = re.findall(r'sluicegate_http_request_failures_total\{[^}]*reason="(\w+)"[^}]*\} (\d+)', text)
    return {reason: int(n) for reason, n in found if int(n)}


def service(name, url, **fields):
    return {"name": name, "url": url, "routes": [{"name": name, "paths": [f"/{name}"]}], **fields}


@pytest.fixture
def upstream():
    """Answers at once, and below /hang when the test is over."""
    over = threading.Event()
    with Upstream(lambda handler, seen: (seen.path.startswith("/hang") and over.wait(5), send(handler, 200, "fine"))) as one:
        yield one
        over.set()


def configuration(upstream, log):
    return {
        "telemetry": {"access_log": str(log), "proxy_status": True},
        "services": [
            service("fine", upstream.url()),
            service("slow", upstream.url("/hang"), read_timeout=200, retries=0),
            service("refused", f"http://127.0.0.1:{free_ports(1)[0]}"),
            service("nameless", "http://nowhere.invalid", retries=0),
        ],
    }


def test_a_failure_says_why_in_its_header_the_log_and_a_counter(start_server, upstream, tmp_path):
    log = tmp_path / "access.log"
    server = start_server(configuration(upstream, log))
    ask = lambda path, **more: request(server.ports["http"], "GET", path, **more)  # noqa: E731
    for path, status, error, reason in [
        ("/refused", 502, "connection_refused", "connect_refused"),
        ("/nameless", 503, "dns_error", "name_resolution"),
        ("/slow", 504, "connection_read_timeout", "read_timeout"),
        ("/nowhere", 404, "destination_not_found", "no_route"),
    ]:
        answer = ask(path)
        assert (answer.status, answer.headers["Proxy-Status"]) == (
            status, f'sluicegate; error={error}; details="{reason}"')
    assert ask("/fine/x?y=1", headers={"Authorization": "Basic x"}).headers["Proxy-Status"] is None
    assert failures(server) == {"connect_refused": 1, "name_resolution": 1, "read_timeout": 1, "no_route": 1}

    until(lambda: log.read_text().count("\n") == 5, "five lines", 5)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line.get("reason") for line in lines] == [
        "connect_refused", "name_resolution", "read_timeout", "no_route", None]
    assert [one["state"] for one in lines[0]["tries"]] == ["failed"] * 6, "one and five retries"
    last = lines[4]
    assert (last["request"]["uri"], last["upstream_uri"]) == ("/fine/x?y=1", "/x?y=1")
    assert (last["response"]["status"], last["source"]) == (200, "upstream")
    assert last["request"]["headers"]["authorization"] == "REDACTED"
    assert last["tries"] == [{"ip": "127.0.0.1", "port": upstream.port}]
    assert (last["route"]["name"], last["service"]["name"]) == ("fine", "fine")


def test_the_access_log_is_opened_anew_at_a_reload(start_server, upstream, tmp_path):
    log, moved = tmp_path / "access.log", tmp_path / "moved.log"
    server = start_server(configuration(upstream, log))
    request(server.ports["http"], "GET", "/fine")
    until(lambda: log.read_text().count("\n") == 1, "a line", 5)
    log.rename(moved)
    server.take_over(configuration(upstream, log))
    until(log.exists, "the file is there again", 5)
    request(server.ports["http"], "GET", "/fine")
    until(lambda: log.read_text().count("\n") == 1, "a line in the new file", 5)
    assert moved.read_text().count("\n") == 1


def test_without_being_asked_nothing_more_is_said(start_server, upstream):
    server = start_server({"services": [service("fine", upstream.url())]})
    assert request(server.ports["http"], "GET", "/nowhere").headers["Proxy-Status"] is None
