"""Writing through the Admin API: in force when it is answered, on disk when it is answered, and never a part of it."""

import concurrent.futures
import json
import select
import socket
import threading
import time
import urllib.parse
import uuid

import pytest

from harness.http_client import request
from harness.server import Server
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def admin(server, method, path, body=None, content_type=JSON):
    data = None if body is None else json.dumps(body) if content_type == JSON else body
    headers = {} if body is None else {"Content-Type": content_type}
    answer = request(server.ports["admin"], method, path, body=data, headers=headers, timeout_s=30)
    return answer.status, answer.json if answer.text else None


def made(server, path, body, content_type=JSON):
    status, entity = admin(server, "POST", path, body, content_type)
    assert status == 201, entity
    return entity


def get(server, path, headers=None):
    return request(server.ports["http"], "GET", path, headers=headers).status


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def server(start_server):
    return start_server()


def test_what_is_written_serves_the_next_request(server, upstream):
    service = made(server, "/services", {"name": "s", "url": upstream.url()})
    for n in range(20):
        assert get(server, f"/r{n}/") == 404
        route = made(server, "/services/s/routes", {"name": f"r{n}", "paths": [f"/r{n}/"]})
        assert route["service"] == {"id": service["id"]}
        assert get(server, f"/r{n}/") == 200
    status, changed = admin(server, "PATCH", "/routes/r0", {"paths": ["/moved"]})
    assert (status, changed["paths"]) == (200, ["/moved"])
    assert (get(server, "/r0/"), get(server, "/moved")) == (404, 200)
    assert admin(server, "DELETE", "/routes/r1") == (204, None)
    assert get(server, "/r1/") == 404
    assert admin(server, "PATCH", "/services/s", {"enabled": False})[0] == 200
    assert get(server, "/r2/") == 404


def test_a_consumer_and_its_key(server, upstream):
    made(server, "/services", {"name": "s", "url": upstream.url()})
    made(server, "/services/s/routes", {"paths": ["/k"]})
    made(server, "/services/s/plugins", {"name": "key-auth"})
    assert get(server, "/k") == 401
    made(server, "/consumers", {"username": "ann"})
    key = made(server, "/consumers/ann/key-auth", {})["key"]
    assert get(server, "/k", {"apikey": key}) == 200
    assert admin(server, "GET", f"/key-auths/{key}")[1]["key"] == key
    assert admin(server, "DELETE", "/consumers/ann") == (204, None)
    assert get(server, "/k", {"apikey": key}) == 401
    assert admin(server, "GET", "/key-auths")[1] == {"data": [], "next": None}


def test_a_key_lives_as_long_as_its_ttl_over_restarts(server, upstream):
    made(server, "/services", {"name": "s", "url": upstream.url()})
    made(server, "/services/s/routes", {"paths": ["/k"]})
    made(server, "/services/s/plugins", {"name": "key-auth"})
    made(server, "/consumers", {"username": "ann"})
    assert made(server, "/consumers/ann/key-auth", {"key": "for-ever"})["ttl"] is None
    assert made(server, "/consumers/ann/key-auth", {"key": "long", "ttl": 1000})["ttl"] == 1000
    began = time.monotonic()
    assert made(server, "/consumers/ann/key-auth", {"key": "short", "ttl": 4})["ttl"] == 4
    assert get(server, "/k", {"apikey": "short"}) == 200 or time.monotonic() - began > 3
    server.restart()
    assert get(server, "/k", {"apikey": "long"}) == 200
    left = admin(server, "GET", "/key-auths/long")[1]["ttl"]
    assert 1000 - (time.monotonic() - began) - 2 < left <= 1000
    until(lambda: get(server, "/k", {"apikey": "short"}) == 401, "its time is over", 20)
    assert admin(server, "GET", "/key-auths/short")[0] == 404
    assert {key["key"] for key in admin(server, "GET", "/key-auths")[1]["data"]} == {"for-ever", "long"}

    def freed():
        return admin(server, "POST", "/consumers/ann/key-auth", {"key": "short", "ttl": 0})[0] == 201

    until(freed, "its name is free", 20)
    assert get(server, "/k", {"apikey": "short"}) == 200


@pytest.mark.parametrize("ttl", [-1, 100_000_001, 1.5, "x"])
def test_a_ttl_that_is_none(server, ttl):
    made(server, "/consumers", {"username": "ann"})
    status, answer = admin(server, "POST", "/consumers/ann/key-auth", {"ttl": ttl})
    assert (status, list(answer["options"])) == (400, ["ttl"])


def test_a_key_of_the_file_counts_from_when_it_is_read(start_server, upstream):
    config = {"services": [{"name": "s", "url": upstream.url(), "routes": [{"paths": ["/k"]}], "plugins": [{"name": "key-auth"}]}],
              "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "short", "ttl": 1}, {"key": "long", "ttl": 1000}]}]}
    server = start_server(config)
    until(lambda: get(server, "/k", {"apikey": "short"}) == 401, "its time is over", 20)
    assert get(server, "/k", {"apikey": "long"}) == 200
    until(lambda: len(admin(server, "GET", "/key-auths")[1]["data"]) == 1, "it is taken away", 20)


def test_forms_and_multipart_say_the_same_as_json(server):
    form = urllib.parse.urlencode({"name": "f", "url": "https://a.example/x", "retries": "7", "tags[]": "t",
                                   "enabled": "false"})
    service = made(server, "/services", form, FORM)
    assert (service["host"], service["port"], service["retries"], service["tags"], service["enabled"]) == (
        "a.example", 443, 7, ["t"], False)
    route = made(server, "/services/f/routes", "paths[]=/a&paths[]=/b&hosts=x.example&headers.x-v[]=1&headers.x-v[]=2"
                 "&strip_path=false&name=", FORM)
    assert (route["paths"], route["hosts"], route["headers"], route["strip_path"], route["name"]) == (
        ["/a", "/b"], ["x.example"], {"x-v": ["1", "2"]}, False, None)
    plugin = made(server, f"/routes/{route['id']}/plugins",
                  "name=rate-limiting&config.minute=5&config.policy=local&config.hide_client_headers=true", FORM)
    assert (plugin["config"]["minute"], plugin["config"]["hide_client_headers"]) == (5, True)
    status, plugin = admin(server, "PATCH", f"/plugins/{plugin['id']}", "config.minute=6", FORM)
    assert (status, plugin["config"]["minute"], plugin["config"]["hide_client_headers"]) == (200, 6, True)
    parts = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                    for name, value in (("username", "m"), ("tags[]", "one"), ("tags[]", "two")))
    consumer = made(server, "/consumers", parts + "--b--\r\n", "multipart/form-data; boundary=b")
    assert (consumer["username"], consumer["tags"]) == ("m", ["one", "two"])


def test_what_cannot_be_built_changes_nothing(server, upstream):
    made(server, "/services", {"name": "s", "url": upstream.url()})
    made(server, "/services/s/routes", {"name": "good", "paths": ["/good"]})
    status, answer = admin(server, "POST", "/services/s/routes", {"name": "bad", "paths": ["~/("]})
    assert status == 400 and answer["code"] == 2, answer
    status, answer = admin(server, "PATCH", "/routes/good", {"paths": ["~/("]})
    assert status == 400, answer
    assert get(server, "/good") == 200
    assert [route["name"] for route in admin(server, "GET", "/routes")[1]["data"]] == ["good"]


def everything(server):
    return {path: admin(server, "GET", f"/{path}?size=1000")[1]["data"]
            for path in ("services", "routes", "consumers", "plugins", "key-auths")}


def write_some(server, upstream):
    made(server, "/services", {"name": "s", "url": upstream.url()})
    for n in range(10):
        made(server, "/services/s/routes", {"name": f"r{n}", "paths": [f"/r{n}"], "tags": ["x"]})
        made(server, "/consumers", {"username": f"c{n}"})
        made(server, f"/consumers/c{n}/key-auth", {"key": f"key{n}"})
    made(server, "/routes/r1/plugins", {"name": "key-auth"})
    assert admin(server, "DELETE", "/consumers/c3")[0] == 204
    assert admin(server, "PATCH", "/routes/r4", {"paths": ["/four"]})[0] == 200


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_is_there_after_a_restart(server, upstream, end):
    write_some(server, upstream)
    before = everything(server)
    assert len(before["consumers"]) == 9 and len(before["key-auths"]) == 9
    server.kill() if end == "kill" else server.stop()
    server.start()
    assert everything(server) == before
    assert (get(server, "/four"), get(server, "/r1"), get(server, "/r1", {"apikey": "key5"})) == (200, 401, 200)


def file_with(upstream, *routes, **more):
    return {"services": [{"name": "filed", "url": upstream.url(),
                          "routes": [{"name": name, "paths": [f"/{name}"]} for name in routes]}], **more}


def test_the_files_entities_are_shown_and_read_only(start_server, upstream):
    server = start_server(file_with(upstream, "a"))
    filed = admin(server, "GET", "/services/filed")[1]
    assert filed["name"] == "filed" and filed["retries"] == 5
    for method, path, body in (("PATCH", "/services/filed", {"retries": 1}), ("DELETE", "/routes/a", None),
                               ("PUT", f"/services/{filed['id']}", {"host": "x"}),
                               ("PUT", "/routes/a", {"paths": ["/b"]}), ("DELETE", "/services/filed", None)):
        status, answer = admin(server, method, path, body)
        assert status == 409 and answer["name"] == "read-only entity", (method, path, answer)
    # What the API makes may refer to them.
    made(server, "/services/filed/routes", {"name": "b", "paths": ["/b"]})
    assert (get(server, "/a"), get(server, "/b")) == (200, 200)
    status, answer = admin(server, "POST", "/routes", {"name": "a", "paths": ["/other"]})
    assert status == 409 and answer["code"] == 5


def test_a_reload_replaces_only_what_the_file_owns(start_server, upstream):
    server = start_server(file_with(upstream, "a"))
    made(server, "/services", {"name": "mine", "url": upstream.url()})
    made(server, "/services/mine/routes", {"name": "b", "paths": ["/b"]})
    server.take_over(file_with(upstream, "c"))
    assert [get(server, path) for path in ("/a", "/b", "/c")] == [404, 200, 200]
    # What contradicts the file steps back, and comes again with it.
    server.take_over(file_with(upstream, "b", "c"))
    assert server.stderr().count("the file has the say") == 1
    assert len(admin(server, "GET", "/routes")[1]["data"]) == 2 and get(server, "/b") == 200
    server.restart()
    assert len(admin(server, "GET", "/routes")[1]["data"]) == 2
    server.take_over(file_with(upstream, "c"))
    names = sorted(route["name"] for route in admin(server, "GET", "/routes")[1]["data"])
    assert names == ["b", "c"] and get(server, "/b") == 200
    # A file that cannot be used changes nothing.
    server.write_config({"routes": [{"name": "x", "paths": ["~/("]}]})
    server.reload()
    assert made(server, "/consumers", {"username": "late"}) and get(server, "/c") == 200


def test_many_writers_at_once(server, upstream):
    """Each is answered on its own, whatever they share; ten at a time, as deck does."""
    made(server, "/services", {"name": "s", "url": upstream.url()})

    def write(n):
        if n % 10 == 9:
            return admin(server, "POST", "/services/s/routes", {"paths": ["~/("]})[0]
        status, route = admin(server, "POST", "/services/s/routes", {"name": f"r{n}", "paths": [f"/w{n}"]})
        return get(server, f"/w{n}") if status == 201 else route

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(write, range(200)))
    assert [outcomes[n] for n in range(200) if n % 10 == 9] == [400] * 20
    assert [outcomes[n] for n in range(200) if n % 10 != 9] == [200] * 180
    assert len(admin(server, "GET", "/routes?size=1000")[1]["data"]) == 180


def test_requests_go_on_and_memory_stays_while_it_is_written(server, upstream):
    made(server, "/services", {"name": "s", "url": upstream.url()})
    made(server, "/services/s/routes", {"name": "kept", "paths": ["/kept"]})

    done, served = threading.Event(), []

    def ask():
        while not done.is_set():
            served.append(get(server, "/kept"))

    def churn(rounds):
        for n in range(rounds):
            assert admin(server, "PUT", "/routes/churned", {"paths": [f"/churned/{n}"]})[0] == 200
        return server.rss_kib()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = [pool.submit(ask)]
        try:
            first, last = churn(150), churn(450)
        finally:
            done.set()
        for one in asked:
            one.result(timeout=20)
    print(f"resident: {first} KiB after 150 writes, {last} KiB after 600; {len(served)} requests meanwhile")
    assert len(served) > 50 and set(served) == {200}
    assert last < first + 8 * 1024


def test_paging_goes_through_all(server):
    for n in range(25):
        made(server, "/consumers", {"username": f"u{n}", "tags": ["even" if n % 2 == 0 else "odd", "all"]})
    for query, expected in (("size=10", 25), ("size=10&tags=even", 13), ("size=4&tags=even/odd", 25),
                            ("size=3&tags=odd,all", 12)):
        seen, path = [], f"/consumers?{query}"
        while path:
            status, page = admin(server, "GET", path)
            assert status == 200
            seen += [consumer["username"] for consumer in page["data"]]
            path = page["next"]
        assert len(seen) == len(set(seen)) == expected, query
    seen, path = 0, "/tags/odd?size=5"
    while path:
        page = admin(server, "GET", path)[1]
        assert all(row["tag"] == "odd" and row["entity_name"] == "consumers" for row in page["data"])
        seen, path = seen + len(page["data"]), page["next"]
    assert seen == 12


def test_upsert_by_a_chosen_id_and_by_name(server):
    chosen = str(uuid.uuid4())
    status, service = admin(server, "PUT", f"/services/{chosen}", {"name": "a", "host": "x.example", "created_at": 1700000000})
    assert (status, service["id"], service["created_at"]) == (200, chosen, 1700000000)
    status, again = admin(server, "PUT", "/services/a", {"host": "y.example"})
    assert (status, again["id"], again["host"], again["name"]) == (200, chosen, "y.example", "a")
    status, other = admin(server, "PUT", "/services/b", {"host": "z.example"})
    assert status == 200 and other["id"] != chosen and other["name"] == "b"
    route = made(server, "/routes", {"paths": ["/x"]})
    assert admin(server, "GET", f"/routes/{route['id']}/service")[0] == 404
    status, service = admin(server, "PUT", f"/routes/{route['id']}/service", {"host": "new.example"})
    assert status == 200
    assert admin(server, "GET", f"/routes/{route['id']}/service")[1] == service
    assert admin(server, "DELETE", f"/routes/{route['id']}/service")[0] == 405
    status, answer = admin(server, "DELETE", f"/services/{service['id']}")
    assert (status, answer["code"], answer["fields"]) == (400, 4, {"@referenced_by": "routes"})


def test_a_queue_as_a_service_is_there_before_the_route_is(server):
    made(server, "/services", {"name": "q", "protocol": "queue", "host": "orders"})
    made(server, "/services/q/routes", {"paths": ["/orders"]})
    answer = request(server.ports["http"], "POST", "/orders", body=b"one")
    assert answer.status == 202


def test_information(server):
    status, root = admin(server, "GET", "/")
    assert status == 200 and root["version"].startswith("3.") and root["configuration"]["database"] == "off"
    assert "key-auth" in root["plugins"]["available_on_server"]
    empty = admin(server, "GET", "/status")[1]["configuration_hash"]
    assert empty == "0" * 32
    made(server, "/consumers", {"username": "c"})
    assert admin(server, "GET", "/status")[1]["configuration_hash"] != empty
    endpoints = admin(server, "GET", "/endpoints")[1]["data"]
    assert {"/services", "/services/{services}/routes/{routes}", "/routes/{routes}/service"} <= set(endpoints)
    assert admin(server, "GET", "/nothing") == (404, {"message": "Not found"})
    assert admin(server, "GET", "/schemas/nothing") == (404, {"message": "No entity named 'nothing'"})
    assert admin(server, "GET", "/schemas/plugins/nothing") == (404, {"message": "No plugin named 'nothing'"})
    answer = request(server.ports["admin"], "GET", "/services")
    assert int(answer.headers["X-Kong-Admin-Latency"]) >= 0 and answer.headers["Server"].startswith("sluicegate/")
    answer = request(server.ports["admin"], "HEAD", "/services")
    assert (answer.status, answer.body) == (200, b"")


def test_a_target_s_health_is_shown_and_set(server, upstream):
    made(server, "/upstreams", {"name": "pool", "healthchecks": {"passive": {"unhealthy": {"http_failures": 3}}}})
    target = made(server, "/upstreams/pool/targets", {"target": f"127.0.0.1:{upstream.port}"})
    made(server, "/services", {"name": "s", "host": "pool"})
    made(server, "/services/s/routes", {"paths": ["/p"]})
    shown = admin(server, "GET", "/upstreams/pool/health")[1]
    assert [(row["id"], row["health"]) for row in shown["data"]] == [(target["id"], "HEALTHY")]
    assert shown["data"][0]["data"]["addresses"][0]["port"] == upstream.port
    assert get(server, "/p") == 200
    one = f"/upstreams/pool/targets/127.0.0.1:{upstream.port}"
    assert admin(server, "PUT", f"{one}/unhealthy") == (204, None)
    assert admin(server, "GET", "/upstreams/pool/health")[1]["data"][0]["health"] == "UNHEALTHY"
    assert admin(server, "GET", "/upstreams/pool/health?balancer_health=1")[1]["data"]["health"] == "UNHEALTHY"
    assert get(server, "/p") == 503
    assert admin(server, "PUT", f"/upstreams/pool/targets/{target['id']}/127.0.0.1:{upstream.port}/healthy") == (204, None)
    assert get(server, "/p") == 200
    assert admin(server, "PUT", f"{one}/10.0.0.9:1/healthy")[0] == 400
    assert admin(server, "PUT", "/upstreams/pool/targets/nobody:1/healthy")[0] == 404
    assert admin(server, "GET", "/upstreams/nobody/health") == (404, {"message": "Not found"})
    assert admin(server, "GET", f"{one}/healthy") == (405, {"message": "Method not allowed"})


def test_a_whole_configuration_at_once(server, upstream):
    """The ingress controller's way: `POST /config` replaces what the API has."""
    made(server, "/consumers", {"username": "before"})
    config = {"_format_version": "3.0", "services": [
        {"name": "s", "url": upstream.url(), "routes": [{"name": "r", "paths": ["/declared"]}]}],
        "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "k"}]}]}
    status, loaded = admin(server, "POST", "/config?check_hash=1", config)
    assert status == 201, loaded
    assert [service["name"] for service in loaded["services"].values()] == ["s"] and len(loaded["consumers"]) == 1
    assert get(server, "/declared") == 200
    assert [one["username"] for one in admin(server, "GET", "/consumers")[1]["data"]] == ["ann"]
    named = admin(server, "GET", "/status")[1]["configuration_hash"]
    assert len(named) == 32 and named != "0" * 32
    assert admin(server, "POST", "/config?check_hash=1", config) == (304, None)
    assert admin(server, "POST", "/config", config)[0] == 201
    server.restart()
    assert admin(server, "GET", "/status")[1]["configuration_hash"] == named and get(server, "/declared") == 200
    # The same as text, in YAML or inside JSON.
    yaml = "_format_version: '3.0'\nconsumers:\n- username: bea\n"
    assert admin(server, "POST", "/config", yaml, "text/yaml")[0] == 201
    assert (get(server, "/declared"), admin(server, "GET", "/consumers/bea")[0]) == (404, 200)
    assert admin(server, "POST", "/config", {"config": json.dumps(config)})[0] == 201
    text = admin(server, "GET", "/config")[1]["config"]
    before = everything(server)
    assert admin(server, "POST", "/config", {"config": text})[0] == 201
    assert [route["id"] for route in everything(server)["routes"]] == [route["id"] for route in before["routes"]]

    bad = {"_format_version": "3.0", "services": [{"name": "x", "host": "a b", "port": 70000,
                                                   "routes": [{"name": "y", "paths": ["z"]}]}]}
    status, answer = admin(server, "POST", "/config", bad)
    assert (status, answer["code"], answer["name"]) == (400, 14, "invalid declarative configuration")
    assert answer["fields"]["services"][0]["host"] == "invalid value: a b"
    status, answer = admin(server, "POST", "/config?flatten_errors=1", bad)
    flat = {entry["entity_name"]: entry for entry in answer["flattened_errors"]}
    assert status == 400 and set(flat) == {"x", "y"}
    assert {error["field"] for error in flat["x"]["errors"]} == {"host", "port"} and flat["y"]["entity_type"] == "route"
    assert get(server, "/declared") == 200
    for body in ({}, {"config": "- 1"}, {"config": "a: ["}):
        assert admin(server, "POST", "/config", body)[0] == 400, body


def test_tags_and_paths_of_every_kind_of_reference(server):
    service = made(server, "/services", {"name": "s", "host": "h.example", "tags": ["t"]})
    made(server, "/services/s/routes", {"name": "r", "paths": ["/x"], "tags": ["t", "u"]})
    plugin = made(server, "/routes/r/plugins", {"name": "correlation-id"})
    assert admin(server, "GET", "/routes/r/service")[1] == service
    assert admin(server, "GET", "/services/s/routes/r")[1]["name"] == "r"
    assert admin(server, "GET", f"/plugins/{plugin['id']}/route")[1]["name"] == "r"
    assert admin(server, "GET", f"/services/s/plugins")[1]["data"] == []
    assert admin(server, "GET", f"/routes/r/plugins/{plugin['id']}")[1] == plugin
    assert admin(server, "PATCH", "/routes/r/service", {"retries": 9})[1]["retries"] == 9
    rows = admin(server, "GET", "/tags")[1]["data"]
    assert sorted((row["entity_name"], row["tag"]) for row in rows) == [("routes", "t"), ("routes", "u"), ("services", "t")]
    # One plugin of a name at a place.
    status, answer = admin(server, "POST", "/routes/r/plugins", {"name": "correlation-id"})
    route = {"id": admin(server, "GET", "/routes/r")[1]["id"]}
    assert (status, answer["fields"]) == (409, {"consumer": None, "name": "correlation-id", "route": route, "service": None})
    assert answer["message"] == (f"UNIQUE violation detected on '{{consumer=null,name=\"correlation-id\","
                                 f"route={{id=\"{route['id']}\"}},service=null}}'")
    # A route goes with its plugins; a service does not go with its routes.
    assert admin(server, "DELETE", "/services/s")[0] == 400
    assert admin(server, "DELETE", "/services/s/routes/r") == (204, None)
    assert admin(server, "GET", "/plugins")[1]["data"] == []
    assert admin(server, "DELETE", "/services/s") == (204, None)


def test_the_order_in_which_entities_came_outlives_restarts(server):
    """Their ids are in another order, and they came within a second."""
    def names():
        return [one["username"] for one in json.loads(admin(server, "GET", "/config")[1]["config"])["consumers"]]

    def make(name, n):
        assert admin(server, "PUT", f"/consumers/{n}0000000-0000-4000-8000-000000000000", {"username": name})[0] == 200

    make("first", 9)
    make("second", 1)
    make("third", 5)
    assert names() == ["first", "second", "third"]
    server.restart()
    assert names() == ["first", "second", "third"]
    make("fourth", 2)
    assert admin(server, "DELETE", "/consumers/first")[0] == 204
    server.restart()
    assert names() == ["second", "third", "fourth"]


def test_the_hash_is_that_of_the_content(server):
    def named():
        return admin(server, "GET", "/status")[1]["configuration_hash"]

    made(server, "/consumers", {"username": "a", "id": "11111111-0000-4000-8000-000000000000"})
    with_a = named()
    made(server, "/consumers", {"username": "b"})
    with_b = named()
    assert len({with_a, with_b, "0" * 32}) == 3
    server.restart()
    assert named() == with_b
    assert admin(server, "DELETE", "/consumers/b")[0] == 204
    assert named() == with_a
    assert admin(server, "DELETE", "/consumers/a")[0] == 204
    assert named() == "0" * 32


def test_what_is_out_of_service_goes_with_a_whole_configuration(start_server, upstream):
    server = start_server(file_with(upstream, "a"))
    made(server, "/services", {"name": "mine", "url": upstream.url()})
    made(server, "/services/mine/routes", {"name": "b", "paths": ["/mine"]})
    server.take_over(file_with(upstream, "b"))
    assert "the file has the say" in server.stderr() and get(server, "/mine") == 404
    assert admin(server, "POST", "/config", {"_format_version": "3.0"})[0] == 201
    server.take_over(file_with(upstream, "a"))
    assert get(server, "/mine") == 404 and [one["name"] for one in admin(server, "GET", "/routes")[1]["data"]] == ["a"]
    server.restart()
    assert get(server, "/mine") == 404


def test_what_is_shown_of_the_file_can_be_posted_and_not_changed(start_server, upstream):
    server = start_server(file_with(upstream, "a"))
    made(server, "/consumers", {"username": "mine"})
    shown = json.loads(admin(server, "GET", "/config")[1]["config"])
    assert len(shown["routes"]) == 1 and len(shown["consumers"]) == 1
    status, loaded = admin(server, "POST", "/config", shown)
    assert status == 201 and list(loaded) == ["consumers"], loaded
    assert get(server, "/a") == 200
    shown["services"][0]["retries"] = 1
    status, answer = admin(server, "POST", "/config", shown)
    assert status == 400 and answer["code"] == 14, answer
    print(answer)


def test_upstreams_whose_names_differ_in_case_only(server):
    with Upstream() as one, Upstream() as other:
        for name, upstream in (("POOL", one), ("pool", other)):
            made(server, "/upstreams", {"name": name})
            made(server, f"/upstreams/{name}/targets", {"target": f"127.0.0.1:{upstream.port}"})
            made(server, "/services", {"name": f"to-{name}", "host": name})
            made(server, f"/services/to-{name}/routes", {"paths": [f"/{name}"]})
        for _ in range(3):
            assert (get(server, "/POOL"), get(server, "/pool")) == (200, 200)
        assert (one.count(), other.count()) == (3, 3)


def test_bodies_under_way_have_a_bound_together(server):
    """Six that do not say how long they are may be 10 MiB each; for a seventh there is no room, for small ones there is."""
    head = (b"POST /config HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    port, sockets = server.ports["admin"], []
    try:
        for _ in range(7):
            sockets.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            sockets[-1].sendall(head)
        answered = select.select(sockets, [], [], 10)[0]
        assert answered, "one of seven is refused"
        assert b" 503 " in answered[0].recv(4096).splitlines()[0]
        made(server, "/consumers", {"username": "small"})
    finally:
        for one in sockets:
            one.close()
