"""Targets that a catalogue lists, and targets whose names and health change while requests go on."""

import concurrent.futures
import contextlib
import shutil

import grpc
import pytest

from harness.consul import Agent, StandIn
from harness.dns import Dns
from harness.http_client import request
from harness.upstream import Upstream, send_json
from harness.wait import until

pytestmark = pytest.mark.ours


@pytest.fixture(params=["stand-in", "agent"])
def consul(request):
    if request.param == "agent" and shutil.which("consul") is None:
        pytest.skip("no `consul` on the PATH: only the stand-in is tried")
    with contextlib.closing(StandIn() if request.param == "stand-in" else Agent()) as catalogue:
        yield catalogue


def named(name):
    """A service that says who it is."""
    return Upstream(lambda handler, seen: send_json(handler, {"name": name}))


def config(upstream, **more):
    return {"upstreams": [{"name": "orders.internal", **upstream}],
            "services": [{"name": "orders", "host": "orders.internal",
                          "routes": [{"name": "orders", "paths": ["/"]}]}], **more}


def ask(server):
    answer = request(server.ports["http"], "GET", "/")
    return answer.json.get("name", answer.status)


def served(server, times=12):
    """Who answered; a status where nobody did."""
    return {ask(server) for _ in range(times)}


def from_consul(consul):
    return {"discovery": {"type": "consul", "address": consul.url, "service": "orders", "interval_ms": 2000}}


def test_instances_of_a_catalogue_are_targets(start_server, consul):
    with named("one") as one, named("two") as two:
        server = start_server(config(from_consul(consul)))
        assert ask(server) == 503
        consul.register("orders", "one", one.port)
        until(lambda: served(server) == {"one"}, "the first instance serves")
        consul.register("orders", "two", two.port, weight=3)
        until(lambda: served(server) == {"one", "two"}, "the second one too")
        answers = [ask(server) for _ in range(40)]
        assert 25 <= answers.count("two") <= 35, "three quarters by weight"
        consul.deregister("one")
        until(lambda: served(server) == {"two"}, "the first one is gone")


def test_a_catalogue_that_talks_nonsense_or_is_gone_takes_nobody_away(start_server):
    with contextlib.closing(StandIn()) as consul, named("one") as one:
        consul.register("orders", "one", one.port)
        server = start_server(config(from_consul(consul)))
        until(lambda: served(server) == {"one"}, "the instance serves")
        consul.say("<html>not json")
        metric = 'sluicegate_catalogue_up{upstream="orders.internal",type="consul"} 0'
        until(lambda: metric in request(server.ports["admin"], "GET", "/metrics").text, "the failure is told")
        assert served(server) == {"one"}
        consul.close()
        assert served(server) == {"one"}


def test_targets_follow_their_names_while_requests_go_on(start_server):
    with Dns() as dns, named("one") as one, named("two") as two:
        dns.srv("orders.example", (1, 1, one.port, "a.example"))
        dns.a("a.example", "127.0.0.1")
        targets = {"targets": [{"target": "orders.example:1", "weight": 100}]}
        server = start_server(config(targets, dns={"servers": [dns.address]}))
        until(lambda: served(server) == {"one"}, "the first address serves")
        dns.srv("orders.example", (1, 1, two.port, "a.example"))
        until(lambda: served(server) == {"two"}, "the second one after its TTL")


def test_an_active_check_takes_a_target_out_and_brings_it_back(start_server):
    state = {"status": 200}

    def answer(handler, seen):
        send_json(handler, {"name": "two"}, state["status"] if seen.path == "/health" else 200)

    with named("one") as one, Upstream(answer) as two:
        checks = {"active": {"http_path": "/health", "healthy": {"interval": 0.05, "successes": 1},
                             "unhealthy": {"interval": 0.05, "http_failures": 2}}}
        targets = [{"target": f"127.0.0.1:{service.port}"} for service in (one, two)]
        server = start_server(config({"targets": targets, "healthchecks": checks}))
        until(lambda: served(server) == {"one", "two"}, "both serve")
        state["status"] = 503
        until(lambda: served(server) == {"one"}, "the failing one is left out")
        state["status"] = 200
        until(lambda: served(server) == {"one", "two"}, "it is back by itself")


def test_a_grpc_check_asks_the_health_service(start_server):
    serving = {"one": True, "two": True}
    with contextlib.ExitStack() as stack:
        def health(name):
            def check(message, context):
                assert message == b"", "the server as a whole"
                return b"\x08\x01" if serving[name] else b"\x08\x02"
            service = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
            handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
            service.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
            who = {"Who": grpc.unary_unary_rpc_method_handler(lambda message, context: name.encode())}
            service.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Named", who),))
            port = service.add_insecure_port("127.0.0.1:0")
            service.start()
            stack.callback(lambda: service.stop(0).wait(5))
            return port

        checks = {"active": {"type": "grpc", "healthy": {"interval": 0.05, "successes": 1},
                             "unhealthy": {"interval": 0.05, "http_failures": 2}}}
        # A server without the health service is not healthy either.
        bare = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        ports = [health("one"), health("two"), bare.add_insecure_port("127.0.0.1:0")]
        bare.start()
        stack.callback(lambda: bare.stop(0).wait(5))
        document = config({"targets": [{"target": f"127.0.0.1:{port}"} for port in ports], "healthchecks": checks})
        document["services"][0].update(protocol="grpc", routes=[{"protocols": ["grpc"], "paths": ["/"]}])
        server = start_server(document)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.ports['http']}"))

        def served():
            def who():
                try:
                    return channel.unary_unary("/test.Named/Who")(b"").decode()
                except grpc.RpcError as error:
                    return error.code().name
            return {who() for _ in range(6)}

        until(lambda: served() == {"one", "two"}, "those that serve are asked")
        serving["two"] = False
        until(lambda: served() == {"one"}, "the one that does not serve is left out")
        serving["two"] = True
        until(lambda: served() == {"one", "two"}, "it is back by itself")
