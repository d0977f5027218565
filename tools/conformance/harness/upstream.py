"""Small HTTP/1.1 services to put behind the gateway, on stdlib only. Each keeps what it was asked."""

import contextlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Seen:
    """One request as the upstream got it."""

    def __init__(self, handler, body):
        self.method, self.target = handler.command, handler.path
        self.path = handler.path.split("?", 1)[0]
        self.headers = handler.headers
        self.raw_headers = handler.headers.items()
        self.body, self.version = body, handler.request_version

    def __repr__(self):
        return f"<{self.method} {self.target} {self.body[:60]!r}>"


def read_body(handler):
    if "chunked" in handler.headers.get("Transfer-Encoding", "").lower():
        pieces = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            pieces.append(handler.rfile.read(size))
            handler.rfile.readline()
        while handler.rfile.readline() not in (b"\r\n", b"\n", b""):
            pass
        return b"".join(pieces)
    return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A client that goes away is part of the tests."""


class Upstream:
    """`answer(handler, seen)` writes the response; use the helpers below it. Default: an echo of the request as JSON."""

    def __init__(self, answer=None, tls=None, port=0):
        self.seen, self.connections, self.lock = [], 0, threading.Lock()
        self.answer = answer or echo
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                with outer.lock:
                    outer.connections += 1
                super().setup()

            def any_method(self):
                seen = Seen(self, read_body(self))
                with outer.lock:
                    outer.seen.append(seen)
                outer.answer(self, seen)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = any_method

            def log_message(self, *_):
                """Quiet."""

        self.server = _Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.configure_cert(context)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def url(self, path=""):
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def last(self):
        with self.lock:
            return self.seen[-1]

    def count(self):
        with self.lock:
            return len(self.seen)

    def close(self):
        with contextlib.suppress(OSError):
            self.server.shutdown()
            self.server.server_close()


def send(handler, status=200, body=b"", headers=None):
    """A response with Content-Length."""
    body = body if isinstance(body, bytes) else body.encode()
    handler.send_response(status)
    for key, value in (headers or {}).items():
        handler.send_header(key, value)
    if status not in (204, 304):
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD" and status not in (204, 304):
        handler.wfile.write(body)


def send_json(handler, value, status=200, headers=None):
    send(handler, status, json.dumps(value), {"Content-Type": "application/json", **(headers or {})})


def echo(handler, seen):
    send_json(handler, {
        "method": seen.method, "target": seen.target, "path": seen.path, "version": seen.version,
        "headers": [[key.lower(), value] for key, value in seen.raw_headers],
        "body": seen.body.decode("latin-1"),
    })
