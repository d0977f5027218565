"""Names of services: resolved by their TTL, with what a name server's failure leaves of them."""

import pytest

from harness.dns import Dns
from harness.http_client import request
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours


def named(dns, port, **settings):
    return {
        "dns": {"servers": [dns.address], "hosts_file": "/dev/null", **settings},
        "services": [{"name": "web", "host": "web.example", "port": port, "retries": 0,
                      "routes": [{"name": "web", "paths": ["/"]}]}]}


def closing(handler, _):
    """Closes each connection, so that each request needs the name anew."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def get(server):
    return request(server.ports["http"], "GET", "/")


def test_a_name_follows_its_records_and_its_server_s_failures(start_server):
    with Dns() as dns, Upstream(closing) as upstream:
        server = start_server(named(dns, upstream.port))
        refused = get(server)
        assert (refused.status, refused.json["message"]) == (503, "name resolution failed")
        dns.a("web.example", "127.0.0.1")
        server.write_config(named(dns, upstream.port, not_found_ttl="0s"))
        server.reload()
        until(lambda: get(server).status == 200, "the name has an address")
        dns.fails = True
        asked = len(dns.asked)
        until(lambda: get(server).status == 200 and len(dns.asked) > asked, "asked again in vain")
        assert get(server).status == 200, "an old answer serves while the name server fails"


def test_a_service_record_s_port_is_used(start_server):
    with Dns() as dns, Upstream(closing) as upstream:
        dns.srv("web.example", (1, 5, upstream.port, "one.example"))
        dns.a("one.example", "127.0.0.1")
        server = start_server(named(dns, 1))
        assert get(server).status == 200


def test_the_hosts_file_needs_no_server(start_server, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 web.example\n")
    with Dns() as dns, Upstream(closing) as upstream:
        server = start_server(named(dns, upstream.port, hosts_file=str(hosts)))
        assert get(server).status == 200
        assert dns.asked == []


def test_a_name_without_addresses_is_not_asked_for_at_every_request(start_server):
    with Dns() as dns, Upstream(closing) as upstream:
        server = start_server(named(dns, upstream.port))
        assert [get(server).status for _ in range(5)] == [503] * 5
        assert len(dns.asked) == 3, f"SRV, A and AAAA once: {dns.asked}"
