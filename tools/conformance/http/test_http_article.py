"""The blog and user services of the article, as HTTP services behind routes with key-auth and correlation ids."""

import json
import re
import urllib.parse

import pytest

from harness.http_client import request
from harness.upstream import Upstream, send_json

pytestmark = pytest.mark.ours


class BlogService:
    """create_post and get_post of the article; a dict stands where it has Redis."""

    def __init__(self):
        self.posts = {}

    def __call__(self, handler, seen):
        url = urllib.parse.urlsplit(seen.target)
        if (seen.method, url.path) == ("POST", "/create_post"):
            post_id = str(len(self.posts) + 1)
            self.posts[post_id] = json.loads(seen.body)
            send_json(handler, {"post_id": post_id}, 201)
        elif (seen.method, url.path) == ("GET", "/get_post"):
            post_id = urllib.parse.parse_qs(url.query).get("post_id", [""])[0]
            if post_id in self.posts:
                send_json(handler, {"post_id": post_id, **self.posts[post_id]})
            else:
                send_json(handler, {"error": "no such post"}, 404)
        else:
            send_json(handler, {"error": "unexpected " + seen.target}, 500)


class UserService:
    """create_user and get_user of the article, without giving the password back."""

    def __init__(self):
        self.users = {}

    def __call__(self, handler, seen):
        url = urllib.parse.urlsplit(seen.target)
        if (seen.method, url.path) == ("POST", "/create_user"):
            user_id = str(len(self.users) + 1)
            self.users[user_id] = json.loads(seen.body)["username"]
            send_json(handler, {"user_id": user_id}, 201)
        elif (seen.method, url.path) == ("GET", "/get_user"):
            user_id = urllib.parse.parse_qs(url.query).get("user_id", [""])[0]
            send_json(handler, {"user_id": user_id, "username": self.users.get(user_id)})
        else:
            send_json(handler, {"error": "unexpected " + seen.target}, 500)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    from harness.server import Server

    def routes(host, *names):
        return [{"name": name, "methods": ["POST" if name.startswith("create") else "GET"], "hosts": [host],
                 "paths": ["/" + name], "strip_path": False} for name in names]

    with Upstream(BlogService()) as blog, Upstream(UserService()) as user:
        server = Server(tmp_path_factory.mktemp("article"), {
            "services": [
                {"name": "blog_service", "url": blog.url(),
                 "routes": routes("blog.example.com", "create_post", "get_post")},
                {"name": "user_service", "url": user.url(),
                 "routes": routes("user.example.com", "create_user", "get_user")}],
            "consumers": [
                {"username": "blog_client", "custom_id": "b-1", "keyauth_credentials": [{"key": "blog_secret"}]}],
            "plugins": [
                {"name": "key-auth", "config": {"key_names": ["apikey"], "hide_credentials": True}},
                {"name": "correlation-id", "config": {"header_name": "X-Request-ID", "generator": "uuid",
                                                      "echo_downstream": True}}],
        }).start()
        server.blog, server.user = blog, user
        yield server
        server.close()


BLOG, USER = {"Host": "blog.example.com", "apikey": "blog_secret"}, {"Host": "user.example.com",
                                                                    "apikey": "blog_secret"}


def test_posts_are_created_and_read(gateway):
    port = gateway.ports["http"]
    made = request(port, "POST", "/create_post", json.dumps({"title": "Hello", "content": "World"}), BLOG)
    assert made.status == 201
    read = request(port, "GET", f"/get_post?post_id={made.json['post_id']}", headers=BLOG)
    assert (read.status, read.json["title"], read.json["content"]) == (200, "Hello", "World")
    assert request(port, "GET", "/get_post?post_id=none", headers=BLOG).status == 404


def test_users_are_created_and_read(gateway):
    port = gateway.ports["http"]
    made = request(port, "POST", "/create_user", json.dumps({"username": "ann", "password": "secret"}), USER)
    read = request(port, "GET", f"/get_user?user_id={made.json['user_id']}", headers=USER)
    assert (made.status, read.status, read.json["username"]) == (201, 200, "ann")


def test_each_service_only_has_its_own_host(gateway):
    port = gateway.ports["http"]
    answer = request(port, "GET", "/get_post?post_id=1", headers=USER)
    assert (answer.status, answer.json["message"]) == (404, "no Route matched with those values")


@pytest.mark.parametrize("headers, message", [
    ({"Host": "blog.example.com"}, "No API key found in request"),
    ({"Host": "blog.example.com", "apikey": "wrong"}, "Unauthorized"),
    ([("Host", "blog.example.com"), ("apikey", "blog_secret"), ("apikey", "blog_secret")], "Duplicate API key found"),
])
def test_without_the_right_key_nothing_reaches_the_service(gateway, headers, message):
    before = gateway.blog.count()
    answer = request(gateway.ports["http"], "GET", "/get_post?post_id=1", headers=headers)
    assert (answer.status, answer.json["message"]) == (401, message)
    assert answer.headers["WWW-Authenticate"].startswith("Key")
    assert gateway.blog.count() == before


def test_the_key_may_be_in_the_query_and_is_hidden_from_the_service(gateway):
    answer = request(gateway.ports["http"], "GET", "/get_post?post_id=none&apikey=blog_secret",
                     headers={"Host": "blog.example.com"})
    assert answer.status == 404 and answer.json == {"error": "no such post"}
    assert "blog_secret" not in gateway.blog.last().target
    request(gateway.ports["http"], "GET", "/get_post?post_id=none", headers=BLOG)
    assert gateway.blog.last().headers["apikey"] is None


def test_the_service_learns_who_called_and_spoofing_is_cleared(gateway):
    request(gateway.ports["http"], "GET", "/get_post", headers={**BLOG, "X-Consumer-Username": "admin",
                                                                "X-Consumer-Custom-ID": "0", "X-Anonymous-Consumer": "true"})
    seen = gateway.blog.last().headers
    assert seen.get_all("X-Consumer-Username") == ["blog_client"]
    assert seen.get_all("X-Consumer-Custom-ID") == ["b-1"]
    assert re.fullmatch(r"[0-9a-f-]{36}", seen["X-Consumer-ID"])
    assert seen["X-Credential-Identifier"]
    assert seen["X-Anonymous-Consumer"] is None


def test_a_correlation_id_is_made_kept_and_echoed(gateway):
    first, second = (request(gateway.ports["http"], "GET", "/get_post", headers=BLOG) for _ in range(2))
    made = first.headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", made)
    assert made != second.headers["X-Request-ID"] == gateway.blog.last().headers["X-Request-ID"]
    kept = request(gateway.ports["http"], "GET", "/get_post", headers={**BLOG, "X-Request-ID": "from-the-client"})
    assert kept.headers["X-Request-ID"] == gateway.blog.last().headers["X-Request-ID"] == "from-the-client"
