"""`deck`, Kong's tool for declarative configuration over the Admin API: ping, validate, sync, diff without a difference, dump,
reset and back. Where `deck` is on the PATH it runs; its calls, recorded once, are replayed everywhere.

What `deck` compares after a sync is the entities it reads back, with the defaults of `/schemas/*` filled in, with the
file's, filled in the same way. The replay does the same.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness.http_client import request
from harness.keys import ca_pem, cert_pair

pytestmark = pytest.mark.ours
CALLS = pathlib.Path(__file__).with_name("deck_calls.json")
DECK = shutil.which("deck")


def state():
    """Every kind of entity that deck knows and we run, and every plugin."""
    (cert, key), ca = cert_pair(), ca_pem()
    return {
        "_format_version": "3.0",
        "services": [
            {"name": "orders", "url": "http://127.0.0.1:9/base", "retries": 2, "tags": ["team-a"], "connect_timeout": 1000,
             "routes": [
                 {"name": "orders", "paths": ["/orders", "~/o/(?<id>\\d+)$"], "methods": ["GET", "POST"],
                  "headers": {"x-version": ["2", "3"]}, "strip_path": False, "regex_priority": 3,
                  "plugins": [{"name": "rate-limiting", "config": {"minute": 100, "policy": "local"}},
                              {"name": "correlation-id", "instance_name": "ids"}]},
                 {"name": "secure", "hosts": ["*.a.example", "b.example:8443"], "protocols": ["https"],
                  "https_redirect_status_code": 301, "preserve_host": True}],
             "plugins": [{"name": "key-auth", "config": {"key_names": ["apikey", "x-key"], "hide_credentials": True}}]},
            {"name": "plain", "host": "plain.example", "port": 8080, "path": "/p", "enabled": False}],
        "routes": [{"name": "nowhere", "paths": ["/nowhere"]}],
        "consumers": [
            {"username": "ann", "custom_id": "1", "tags": ["vip"], "keyauth_credentials": [{"key": "ann-key"}],
             "plugins": [{"name": "rate-limiting", "config": {"second": 5, "hour": 1000, "policy": "local"}}]},
            {"custom_id": "only"}],
        "plugins": [{"name": "prometheus", "config": {"status_code_metrics": True}}],
        "upstreams": [
            {"name": "pool.internal", "algorithm": "least-connections", "slots": 100, "targets": [
                {"target": "10.0.0.1:80", "weight": 10}, {"target": "10.0.0.2:80"}],
             "healthchecks": {"active": {"healthy": {"interval": 5, "successes": 1}}}}],
        "certificates": [{"id": "b7f4c7f2-3d1b-4a64-9a5c-6f2f3a1f9d01", "cert": cert, "key": key,
                          "snis": [{"name": "a.example"}, {"name": "*.b.example"}]}],
        # With Kong, too, deck wants the digest written out.
        "ca_certificates": [{"id": "c7f4c7f2-3d1b-4a64-9a5c-6f2f3a1f9d02", "cert": ca, "cert_digest": digest(ca)}],
        "vaults": [{"prefix": "my-env", "name": "env", "config": {"prefix": "MY_"}}],
    }


def digest(pem):
    """The SHA-256 of a certificate."""
    return hashlib.sha256(base64.b64decode("".join(pem.strip().splitlines()[1:-1]))).hexdigest()


class Deck:
    """`deck gateway …` against a server."""

    def __init__(self, server, folder):
        self.address, self.folder = server.url("admin", ""), folder
        self.env = dict(os.environ, DECK_ANALYTICS="off", HOME=str(folder))

    def run(self, *args):
        command = [DECK, "gateway", *args, "--kong-addr", self.address, "--analytics=false"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.folder, env=self.env)

    def ok(self, *args):
        done = self.run(*args)
        assert done.returncode == 0, f"{args}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def no_difference(self, file):
        said = self.ok("diff", str(file), "--non-zero-exit-code")
        assert [int(n) for n in re.findall(r"(?:Created|Updated|Deleted): (\d+)", said)] == [0, 0, 0], said


@pytest.mark.skipif(DECK is None, reason="deck is not on the PATH")
def test_deck_itself(start_server, tmp_path):
    server = start_server()
    deck = Deck(server, tmp_path)
    file = tmp_path / "kong.json"
    file.write_text(json.dumps(state()))
    assert "Successfully connected" in deck.ok("ping")
    deck.ok("validate", str(file))
    said = deck.ok("sync", str(file))
    assert re.search(r"Created: [1-9]", said) and "Deleted: 0" in said, said
    deck.no_difference(file)
    deck.ok("sync", str(file))
    deck.no_difference(file)

    dump, again = tmp_path / "dump.yaml", tmp_path / "again.yaml"
    deck.ok("dump", "-o", str(dump))
    deck.no_difference(dump)
    deck.ok("dump", "-o", str(again), "--with-id")
    deck.no_difference(again)
    # A change of one thing is one change.
    changed = json.loads(file.read_text())
    changed["consumers"][0]["tags"] = ["vip", "more"]
    file.write_text(json.dumps(changed))
    said = deck.ok("sync", str(file))
    assert "Created: 0" in said and "Updated: 1" in said and "Deleted: 0" in said, said
    deck.ok("dump", "-o", str(dump), "--yes")
    server.restart()
    deck.no_difference(dump)
    deck.ok("reset", "--force")
    for kind in ("services", "routes", "consumers", "plugins", "upstreams", "ca_certificates"):
        assert request(server.ports["admin"], "GET", f"/{kind}").json["data"] == [], kind
    deck.ok("sync", str(dump))
    deck.no_difference(dump)
    deck.no_difference(file)


def test_the_calls_of_deck(start_server):
    """Recorded from deck 1.33.0 as it synced, read back, dumped and reset the state above; in its order."""
    server = start_server()
    calls = json.loads(CALLS.read_text())
    for number, call in enumerate(calls):
        body = None if call["body"] is None else json.dumps(call["body"])
        headers = {} if body is None else {"Content-Type": "application/json"}
        answer = request(server.ports["admin"], call["method"], call["path"], body=body, headers=headers)
        where = f"call {number}: {call['method']} {call['path']}"
        assert answer.status == call["status"], f"{where}: {answer.status} {answer.text[:500]}"
        if body is not None and answer.status in (200, 201) and not call["path"].startswith("/schemas/"):
            reads_back(answer.json, call["body"], where)
        if call["method"] == "GET" and "n" in call:
            assert len(answer.json["data"]) == call["n"], where
    assert len(calls) > 100


def reads_back(shown, sent, where):
    """Each field that was sent is shown as it was sent, lists in their order."""
    for name, value in sent.items():
        if isinstance(value, dict) and "id" in value:
            # deck sends more of what is referred to than its id.
            assert shown.get(name) == {"id": value["id"]}, f"{where}: {name}"
        elif isinstance(value, dict) and isinstance(shown.get(name), dict):
            reads_back(shown[name], value, f"{where}: {name}")
        else:
            assert shown.get(name) == value, f"{where}: {name}: {shown.get(name)!r} and not {value!r}"
