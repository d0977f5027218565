"""Who may use the Admin API once there are tokens: over real sockets, on loopback and off it, and over a reload."""

import base64
import json
import socket

import pytest

from harness.http_client import request
from harness.server import Server, run_cli

pytestmark = pytest.mark.ours
READS, WRITES = "reads-0123456789", "writes-0123456789"
TOKENS = {"admin": {"tokens": [{"name": "eye", "token": READS, "role": "read"},
                               {"name": "ci", "token": WRITES, "role": "write"}]}}


@pytest.fixture
def server(tmp_path):
    """A server that is ready without being asked for more than its readiness."""
    server = Server(tmp_path / "tokens", TOKENS)
    server.start()
    yield server
    server.close()


def status(server, method="GET", headers=None, path="/status"):
    answer = request(server.ports["admin"], method, path, headers=headers)
    return answer.status, answer


def test_a_token_is_asked_for_on_loopback_too(server):
    code, answer = status(server)
    assert code == 401 and answer.json == {"message": "Unauthorized"}
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    for headers in ({"Kong-Admin-Token": READS}, {"Authorization": f"Bearer {READS}"}, {"Kong-Admin-Token": WRITES}):
        assert status(server, headers=headers)[0] == 200, headers
    for headers in ({"Kong-Admin-Token": READS + "x"}, {"Kong-Admin-Token": READS[:-1]}, {"Authorization": READS},
                    {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}):
        assert status(server, headers=headers)[0] == 401, headers
    assert request(server.ports["admin"], "GET", "/metrics").status == 401
    assert request(server.ports["admin"], "GET", "/status/ready").status == 200


def test_reading_is_not_writing(server):
    code, answer = status(server, "POST", {"Kong-Admin-Token": READS, "Content-Type": "application/json"})
    assert code == 403 and answer.json == {"message": "You do not have permissions to change this resource"}
    assert status(server, "POST", {"Kong-Admin-Token": WRITES, "Content-Type": "application/json"})[0] == 405


def test_a_web_page_does_not_get_in_with_a_token_either(server):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert status(server, headers=headers | {"Kong-Admin-Token": WRITES})[0] == 403, headers


def test_a_reload_changes_the_tokens(server):
    server.take_over({"admin": {"tokens": [{"name": "new", "token": "another-0123456789", "role": "read"}]}})
    assert status(server, headers={"Kong-Admin-Token": READS})[0] == 401
    assert status(server, headers={"Kong-Admin-Token": "another-0123456789"})[0] == 200
    server.take_over({})
    assert status(server)[0] == 200


def test_a_token_opens_the_api_off_loopback(start_server, tmp_path):
    host = socket.gethostbyname(socket.gethostname())
    if host.startswith("127."):
        pytest.skip("this machine has no other address")
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    file = tmp_path / "open.yaml"
    listen = {"listen": {"admin": [f"{host}:{port}"]}}
    file.write_text(json.dumps(listen))
    refused = run_cli("check", file)
    assert refused.returncode != 0 and "admin.tokens" in refused.stderr
    file.write_text(json.dumps(listen | TOKENS))
    assert run_cli("check", file).returncode == 0
