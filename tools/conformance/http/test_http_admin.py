"""What can be seen from outside: readiness, /metrics, the management API's little and the page; and who may look."""

import base64
import re

import pika
import pytest

from harness.broker import Collector, PERSISTENT
from harness.http_client import request
from harness.server import run_cli
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours
BASIC = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from harness.server import Server

    with Upstream() as upstream:
        server = Server(tmp_path_factory.mktemp("admin"), {
            "services": [
                {"name": "in", "protocol": "queue", "host": "in", "routes": [{"name": "in", "paths": ["/in"]}]},
                {"name": "up", "url": upstream.url(), "routes": [{"name": "up", "paths": ["/up"]}]}],
            "plugins": [{"name": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}}],
        }).start()
        yield server
        server.close()


def metrics(server, query=""):
    answer = request(server.ports["admin"], "GET", "/metrics" + query)
    assert answer.status == 200 and answer.headers["Content-Type"].startswith(("text/plain", "application/openmetrics"))
    return answer.text


def values(text, wanted):
    """All samples whose `name{labels}` matches, as floats."""
    return [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
            if not line.startswith("#") and re.search(wanted, line.rsplit(" ", 1)[0])]


def test_ready_and_started_quickly(server):
    assert request(server.ports["admin"], "GET", "/status/ready").status == 200
    print(f"ready after {server.started_in_ms:.0f} ms, {server.rss_kib() / 1024:.1f} MiB resident")


def test_the_metrics_are_well_formed_prometheus_text(server):
    for line in metrics(server).splitlines():
        assert re.fullmatch(r"# (HELP|TYPE|UNIT|EOF).*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eEinfaINFA]+( \d+)?", line) \
            or not line, line


def test_requests_are_counted_by_route_and_code(server):
    """In our own family for every route, and in Kong's, which its dashboards read, where its plugin is on."""
    families = ["sluicegate_http_requests_total", "kong_http_requests_total"]
    labels = r'\{(?=.*route="up").*code="200"'

    def counted():
        text = metrics(server)
        return [sum(values(text, f"^{family}{labels}")) for family in families]

    before = counted()
    for _ in range(7):
        request(server.ports["http"], "GET", "/up")
    until(lambda: counted() == [count + 7 for count in before], "seven more requests")
    assert values(metrics(server), r'^sluicegate_http_request_duration_seconds_bucket\{.*le='), "latency histograms"
    assert values(metrics(server), r'^kong_request_latency_ms_bucket\{.*le='), "Kong's latency histograms"


def test_queue_depth_rates_connections_and_the_process(server):
    connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
    channel = connection.channel()
    channel.queue_declare("counted", durable=True)
    channel.confirm_delivery()
    text = metrics(server)
    ready = sum(values(text, "messages_ready"))
    for _ in range(5):
        channel.basic_publish("", "counted", b"x", PERSISTENT)
    until(lambda: sum(values(metrics(server), "messages_ready")) == ready + 5, "five more ready")
    consumer = Collector(channel, "counted").wait(5)
    until(lambda: sum(values(metrics(server), "messages_unacked")) >= 5, "five unacked")
    channel.basic_ack(consumer.tags[-1], multiple=True)
    until(lambda: sum(values(metrics(server), "messages_unacked")) == 0, "none unacked")
    text = metrics(server)
    for wanted in ("connections", "sync", "process_.*cpu", "process_.*(resident|memory)", "oldest"):
        assert values(text, wanted), f"no sample matches {wanted!r}"
    channel.queue_delete("counted")
    connection.close()


def test_management_lists_the_queues_to_those_who_log_in(server):
    port = server.ports["management"]
    request(server.ports["http"], "POST", "/in", b"x")
    assert request(port, "GET", "/api/queues").status == 401
    assert request(port, "GET", "/api/queues", headers={
        "Authorization": "Basic " + base64.b64encode(b"guest:wrong").decode()}).status == 401
    answer = request(port, "GET", "/api/queues", headers=BASIC)
    assert answer.status == 200
    queue = next(queue for queue in answer.json if (queue["name"], queue["vhost"]) == ("in", "/"))
    assert (queue["durable"], queue["messages_ready"] >= 1) == (True, True)
    assert set(queue["message_stats"]) == {"publish", "deliver_get", "ack"}
    assert queue["message_stats"]["publish"] >= 1, "the page makes the queue's rates of these"
    assert request(port, "GET", "/api/no-such-thing", headers=BASIC).status == 404


def test_the_page_is_plain_and_shows_itself(server):
    answer = request(server.ports["management"], "GET", "/", headers=BASIC)
    assert (answer.status, answer.headers["Content-Type"].startswith("text/html")) == (200, True)
    assert "sluicegate" in answer.text.lower()
    assert not re.search(r"(src|href)=[\"']?https?://", answer.text), "the page must not load anything from elsewhere"


@pytest.mark.parametrize("listener, target", [("admin", "/metrics"), ("admin", "/status/ready"),
                                              ("management", "/api/queues"), ("management", "/")])
def test_a_web_page_elsewhere_cannot_use_the_loopback_listeners(server, listener, target):
    """DNS rebinding and cross-site requests: Host and Origin are checked."""
    rebound = request(server.ports[listener], "GET", target, headers={**BASIC, "Host": "evil.example"})
    crossed = request(server.ports[listener], "GET", target, headers={**BASIC, "Origin": "http://evil.example"})
    assert (rebound.status, crossed.status) == (403, 403)
    for host in ("localhost", "127.0.0.1", "[::1]"):
        good = {**BASIC, "Host": f"{host}:{server.ports[listener]}"}
        assert request(server.ports[listener], "GET", target, headers=good).status == 200


@pytest.mark.parametrize("listener", ["admin", "management"])
def test_off_loopback_without_credentials_is_a_configuration_error(tmp_path, listener):
    (tmp_path / "f.yaml").write_text(f'_format_version: "3.0"\nlisten: {{ {listener}: ["0.0.0.0:0"] }}\n')
    done = run_cli("check", tmp_path / "f.yaml")
    assert done.returncode == 1 and "f.yaml:2:" in done.stdout + done.stderr
