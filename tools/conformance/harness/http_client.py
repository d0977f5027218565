"""One HTTP request through http.client, which sends exactly what it is told, and its answer."""

import contextlib
import http.client
import json as json_module


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body, self.version = response.status, response.headers, body, response.version

    @property
    def json(self):
        return json_module.loads(self.body)

    @property
    def text(self):
        return self.body.decode()

    def echoed(self, name):
        """A header's values as the echo upstream got them."""
        return [value for key, value in self.json["headers"] if key == name.lower()]

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:300]!r}>"


def request(port, method, target, body=None, headers=None, timeout_s=10, connection=None):
    """`headers` is a dict or a list of pairs (for repeats); Host may be among them."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    names = {name.lower() for name, _ in pairs}
    owned = connection is None
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection) if owned else contextlib.nullcontext():
        connection.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
        for name, value in pairs:
            connection.putheader(name, value)
        chunked = body is not None and not isinstance(body, (bytes, str))
        if isinstance(body, str):
            body = body.encode()
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif "content-length" not in names and (body is not None or method in ("POST", "PUT", "PATCH")):
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body, encode_chunked=chunked)
        response = connection.getresponse()
        return Answer(response, response.read())
