"""An upstream that keeps every byte it gets, and the strictest reader of HTTP/1.1 that can be written.

What a gateway forwards must have one meaning for every reader there is, so whatever this one does not take is ambiguous:
one framing field at most, spelled plainly; no control characters, no folded lines, no bare CR or LF; chunks to the letter; no
switch to another HTTP.
"""

import re
import threading

from harness.sockets import serve_each

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") (/[!-~]*) HTTP/1\.1")
FIELD = re.compile(rb"(" + TOKEN + rb"): ?([\t -~\x80-\xff]*)")
CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")
#: Fields that some reader takes for a framing field.
LOOK_ALIKE = re.compile(rb"(content|transfer)[-_ ]?(length|encoding)", re.I)


class Ambiguous(Exception):
    """These bytes could be read in two ways."""


class Forwarded:
    """One request as it was forwarded."""

    def __init__(self, method, target, fields, body, chunked, trailers):
        self.method, self.target, self.fields, self.body = method, target, fields, body
        self.chunked, self.trailers = chunked, trailers

    def values(self, name):
        return [value for key, value in self.fields if key == name]

    def __repr__(self):
        return f"<{self.method} {self.target} {self.body[:40]!r}>"


def fields_of(lines):
    fields = []
    for line in lines:
        found = FIELD.fullmatch(line)
        if not found or found[2] != found[2].strip(b" \t"):
            raise Ambiguous(f"the line {line[:200]!r}")
        fields.append((found[1].lower(), found[2]))
    return fields


def framing_of(fields):
    """(length, chunked) of a head."""
    lengths = [value for name, value in fields if name == b"content-length"]
    encodings = [value for name, value in fields if name == b"transfer-encoding"]
    odd = [name for name, _ in fields if LOOK_ALIKE.search(name) and name not in (
        b"content-length", b"transfer-encoding", b"content-encoding")]
    if odd or len(lengths) + len(encodings) > 1:
        raise Ambiguous(f"framing by {lengths} {encodings} {odd}")
    if encodings and encodings[0] != b"chunked":
        raise Ambiguous(f"the encoding {encodings[0]!r}")
    if lengths and not re.fullmatch(rb"0|[1-9][0-9]{0,17}", lengths[0]):
        raise Ambiguous(f"the length {lengths[0]!r}")
    return int(lengths[0]) if lengths else 0, bool(encodings)


def read_one(data):
    """The first request of the bytes and how many it has; None if it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    start = REQUEST_LINE.fullmatch(first)
    if not start:
        raise Ambiguous(f"the request line {first[:200]!r}")
    fields = fields_of(lines)
    if len([1 for name, _ in fields if name == b"host"]) != 1:
        raise Ambiguous(f"the hosts {[value for name, value in fields if name == b'host']}")
    switches = [value for name, value in fields if name == b"upgrade" and value.lower() != b"websocket"]
    if switches or any(name == b"http2-settings" for name, _ in fields):
        raise Ambiguous(f"a way around the gateway: upgrade to {switches}")
    length, chunked = framing_of(fields)
    at, body, trailers = end + 4, b"", []
    if not chunked:
        if len(data) < at + length:
            return None
        return Forwarded(start[1], start[2], fields, data[at:at + length], False, []), at + length
    while True:
        size = CHUNK.match(data, at)
        if not size:
            if b"\r\n" in data[at:] or len(data) - at > 16:
                raise Ambiguous(f"the chunk {data[at:at + 40]!r}")
            return None
        at, count = size.end(), int(size[1], 16)
        if count == 0:
            break
        if len(data) < at + count + 2:
            return None
        body += data[at:at + count]
        if data[at + count:at + count + 2] != b"\r\n":
            raise Ambiguous(f"the end of a chunk {data[at + count:at + count + 9]!r}")
        at += count + 2
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        line, at = data[at:end], end + 2
        if not line:
            break
        trailers += fields_of([line])
    framing = [name for name, _ in trailers if LOOK_ALIKE.search(name) or name in (b"host", b"connection")]
    if framing:
        raise Ambiguous(f"the trailers {framing}")
    return Forwarded(start[1], start[2], fields, body, True, trailers), at


class Recorder:
    """Answers every whole request `200 ok`. `take()` gives what came since it was last asked."""

    def __init__(self, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"):
        self.answer, self.lock = answer, threading.Lock()
        self.forwarded, self.ambiguous, self.raw = [], [], []
        self.server = serve_each(self.serve)
        self.port = self.server.getsockname()[1]

    def serve(self, connection):
        data = b""
        with connection:
            while True:
                try:
                    piece = connection.recv(65536)
                except OSError:
                    return
                if not piece:
                    return
                data += piece
                with self.lock:
                    self.raw.append(piece)
                try:
                    while found := read_one(data):
                        request, used = found
                        data = data[used:]
                        with self.lock:
                            self.forwarded.append(request)
                        connection.sendall(self.answer)
                except Ambiguous as reason:
                    with self.lock:
                        self.ambiguous.append((str(reason), data))
                    return
                except OSError:
                    return

    def take(self):
        """(requests, ambiguous ones, raw bytes)"""
        with self.lock:
            taken = self.forwarded, self.ambiguous, b"".join(self.raw)
            self.forwarded, self.ambiguous, self.raw = [], [], []
        return taken

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()
