"""Consul: a real agent where there is one on the PATH, and a stand-in that answers the same queries."""

import json
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.ports import free_ports
from harness.wait import until


class Agent:
    """`consul agent -dev`. Its services have no checks, so all pass."""

    def __init__(self):
        http, dns, grpc, grpc_tls, serf_lan, serf_wan, server = free_ports(7)
        self.url = f"http://127.0.0.1:{http}"
        ports = {"http": http, "dns": dns, "grpc": grpc, "grpc_tls": grpc_tls, "serf_lan": serf_lan,
                 "serf_wan": serf_wan, "server": server}
        self.process = subprocess.Popen(
            [shutil.which("consul"), "agent", "-dev", "-bind=127.0.0.1", "-hcl", json.dumps({"ports": ports})],
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        until(self._has_leader, "the agent has a leader", timeout_s=30)

    def _has_leader(self):
        try:
            with urllib.request.urlopen(f"{self.url}/v1/status/leader", timeout=2) as answer:
                return len(answer.read()) > 2
        except OSError:
            return False

    def register(self, service, instance, port, weight=1):
        self._put("/v1/agent/service/register", {"Name": service, "ID": instance, "Address": "127.0.0.1", "Port": port,
                                                 "Weights": {"Passing": weight, "Warning": 1}})

    def deregister(self, instance):
        self._put(f"/v1/agent/service/deregister/{instance}")

    def _put(self, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        urllib.request.urlopen(urllib.request.Request(self.url + path, data, method="PUT"), timeout=5).close()

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class StandIn:
    """Answers `/v1/health/service/<name>` as an agent does, blocking queries included. `garbage` is said instead, if set."""

    def __init__(self):
        self.services, self.index, self.garbage = {}, 1, None
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, handler):
        parts = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        assert parts.path.startswith("/v1/health/service/") and query["passing"] == "1", handler.path
        service = urllib.parse.unquote(parts.path.rsplit("/", 1)[1])
        known, wait_s = int(query.get("index", 0)), int(query.get("wait", "0s").rstrip("s"))
        with self.changed:
            self.changed.wait_for(lambda: self.index > known or self.garbage is not None, wait_s if known else 0)
            body = self.garbage if self.garbage is not None else json.dumps([
                {"Node": {"Node": "n", "Address": "127.0.0.1", "Datacenter": "dc1"}, "Checks": [],
                 "Service": {"ID": instance, "Service": name, "Tags": [], "Address": "127.0.0.1", "Port": port,
                             "Weights": {"Passing": weight, "Warning": 1}}}
                for instance, (name, port, weight) in self.services.items() if name == service])
            index = self.index
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("X-Consul-Index", str(index))
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())

    def register(self, service, instance, port, weight=1):
        self._change(lambda: self.services.update({instance: (service, port, weight)}))

    def deregister(self, instance):
        self._change(lambda: self.services.pop(instance))

    def say(self, garbage):
        self._change(lambda: setattr(self, "garbage", garbage))

    def _change(self, change):
        with self.changed:
            change()
            self.index += 1
            self.changed.notify_all()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
