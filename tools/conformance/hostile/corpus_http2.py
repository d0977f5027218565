"""Requests over HTTP/2 that would be ambiguous once written as HTTP/1.1, as data.

A case is (name, frames, forwarded): whether an upstream sees one request of it; None if it may or may not. In any case it must
see nothing that could be read in two ways.
"""

from harness.h2_raw import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame

BASE = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x/y"), (b":authority", b"a")]
SMUGGLED = b"GET /x/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CASES = []


def case(name, frames, forwarded=False):
    CASES.append((name, frames, forwarded))


def with_fields(name, fields, body=None, forwarded=False, base=BASE):
    """A request of the base and these fields."""
    flags = END_HEADERS | (END_STREAM if body is None else 0)
    frames = frame(HEADERS, flags, 1, block(base + fields))
    if body is not None:
        frames += frame(DATA, END_STREAM, 1, body)
    case(name, frames, forwarded)


def with_pseudo(name, changed, forwarded=False):
    """The base with some pseudo-fields changed (None: left out)."""
    fields = [(key, changed.get(key, value)) for key, value in BASE]
    with_fields(name, [], forwarded=forwarded, base=[(key, value) for key, value in fields if value is not None])


# H2.CL: a length that is not that of the body.
with_fields("CL right", [(b"content-length", b"5")], b"hello", forwarded=True)
with_fields("no CL", [], b"hello", forwarded=True)
with_fields("CL 0 and a body", [(b"content-length", b"0")], SMUGGLED)
with_fields("CL too short", [(b"content-length", b"1")], SMUGGLED)
with_fields("CL too long", [(b"content-length", b"500")], b"hello")
with_fields("CL without a body", [(b"content-length", b"5")])
for value in [b"+5", b"-5", b"0x5", b"5,5", b"5, 5", b"", b"5\x00", b"5 5", b"five", b"18446744073709551621"]:
    with_fields(f"CL {value!r}", [(b"content-length", value)], b"hello")
with_fields("two equal CL", [(b"content-length", b"5")] * 2, b"hello")
with_fields("two different CL", [(b"content-length", b"5"), (b"content-length", b"0")], b"hello")
with_fields("content_length", [(b"content_length", b"0")], b"hello")

# H2.TE and other fields of a connection.
for value in [b"chunked", b"Chunked", b"identity", b"chunked, identity", b"\x0bchunked"]:
    with_fields(f"TE {value!r}", [(b"transfer-encoding", value)], b"0\r\n\r\n" + SMUGGLED)
with_fields("TE and CL", [(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], b"0\r\n\r\n")
with_fields("transfer_encoding", [(b"transfer_encoding", b"chunked")], b"0\r\n\r\n")
for name, value in [(b"connection", b"close"), (b"connection", b"content-length"), (b"connection", b"x-secret"), (b"keep-alive", b"1"),
                    (b"proxy-connection", b"close"), (b"upgrade", b"websocket"), (b"te", b"gzip")]:
    with_fields(f"{name.decode()}: {value.decode()}", [(name, value)])
with_fields("te: trailers", [(b"te", b"trailers")], forwarded=True)

# Injection: what would end a line.
INJECTIONS = [b"a\r\nTransfer-Encoding: chunked", b"a\r\n\r\n" + SMUGGLED, b"a\nX: y", b"a\rX: y", b"a\x00b", b"a\r\n", b"\r\na", b"a\n b", b"a\x01", b"a\x7f"]
for value in INJECTIONS:
    with_fields(f"value {value[:20]!r}", [(b"x", value)])
for name in [b"x\r\ny", b"x\ny", b"x\ry", b"x: y\r\nz", b"x:", b"x y", b"x\x00", b"X-Upper", b"Transfer-Encoding", b"", b"x\t", b"\xff", b"transfer-encoding ", b" host", b"content-length\r"]:
    with_fields(f"name {name!r}", [(name, b"chunked")])

# Pseudo-fields.
for value in [b"GET /x/smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET", b"G ET", b"GET\r\n", b"GET\n", b"", b"GE\x00T", b"GET /x/y HTTP/1.1\r\nX:", b"P(ST", b"POST\t"]:
    with_pseudo(f":method {value[:24]!r}", {b":method": value})
for value in [b"/x/y HTTP/1.1\r\nHost: b\r\n\r\nGET /x/smuggled", b"/x/ y", b"/x/y\r\n", b"/x/y\n", b"/x/\x00", b"", b"x/y", b"*", b"http://b/x/y", b"/x/y#f", b"/x/\t", b"/x/y\rX: z"]:
    with_pseudo(f":path {value[:24]!r}", {b":path": value}, forwarded=value == b"/x/y#f")
for value in [b"http://b/x/smuggled?", b"http\r\n", b"", b"ht tp", b"http\x00", b"javascript", b"ftp", b"1http"]:
    # The scheme is not forwarded, so what is wrong with it harms nobody.
    with_pseudo(f":scheme {value!r}", {b":scheme": value}, forwarded=None)
for value in [b"a\r\nX: y", b"a b", b"a/b", b"u@a", b"a\x00", b"a#b", b"a?b", b"a, b", b"[::1", b"a:b", b"", b"a\\b", b"http://a"]:
    with_pseudo(f":authority {value!r}", {b":authority": value})
for key in (b":method", b":scheme", b":path", b":authority"):
    with_pseudo(f"no {key.decode()}", {key: None})
    with_fields(f"{key.decode()} twice", [], base=BASE + [(key, dict(BASE)[key])])
    with_fields(f"{key.decode()} after a field", [], base=[pair for pair in BASE if pair[0] != key] + [(b"x", b"y"), (key, dict(BASE)[key])])
with_fields("unknown pseudo-field", [], base=BASE + [(b":x", b"y")])
with_fields(":status in a request", [], base=BASE + [(b":status", b"200")])
with_fields(":protocol without CONNECT", [], base=BASE + [(b":protocol", b"websocket")])
with_fields("host and :authority differ", [(b"host", b"b")])
with_fields("host and :authority agree", [(b"host", b"a")], forwarded=True)
with_fields("two hosts", [(b"host", b"a"), (b"host", b"b")])
with_fields("host alone", [(b"host", b"a")], base=[pair for pair in BASE if pair[0] != b":authority"], forwarded=True)
with_fields("CONNECT", [], base=[(b":method", b"CONNECT"), (b":authority", b"a:80")])
with_fields("CONNECT with a path", [], base=[(b":method", b"CONNECT"), (b":scheme", b"http"), (b":path", b"/x/y"), (b":authority", b"a")])

# Extended CONNECT (RFC 8441) becomes an upgrade over HTTP/1.1.
EXTENDED = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"), (b":path", b"/x/y"), (b":authority", b"a"),
            (b"sec-websocket-version", b"13")]
for value in [b"h2c", b"HTTP/2.0", b"TLS/1.2", b"websocket\r\nX: y", b"websocket, h2c", b"websocket\n", b"", b"web socket", b"websocket\x00"]:
    with_fields(f"CONNECT with :protocol {value!r}", [], base=[(key, value if key == b":protocol" else old) for key, old in EXTENDED])
for name, value in [(b"transfer-encoding", b"chunked"), (b"connection", b"upgrade"), (b"upgrade", b"h2c"), (b"sec-websocket-protocol", b"a\r\nX: y"),
                    (b"content_length", b"5"), (b"host", b"b")]:
    with_fields(f"CONNECT with {name.decode()}: {value!r}", [(name, value)], base=EXTENDED)
with_fields("CONNECT with a line end in the path", [], base=[(key, b"/x/y\r\nX: z" if key == b":path" else old) for key, old in EXTENDED])


def trailers(name, fields, forwarded=False):
    case(f"trailer {name}", frame(HEADERS, END_HEADERS, 1, block(BASE)) + frame(DATA, 0, 1, b"hello")
         + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields)), forwarded)


trailers("plain", [(b"x-t", b"1")], forwarded=True)
for fields in [[(b"transfer-encoding", b"chunked")], [(b"x", b"a\r\nb")], [(b"X", b"y")], [(b"connection", b"close")]]:
    trailers(repr(fields[0]), fields)
# What has no place in trailers is left out of them.
trailers("content-length", [(b"content-length", b"500")], forwarded=True)
trailers("host", [(b"host", b"b")], forwarded=True)
trailers(":path", [(b":path", b"/x/smuggled")], forwarded=True)
case("trailers without the end", frame(HEADERS, END_HEADERS, 1, block(BASE)) + frame(DATA, 0, 1, b"hello")
     + frame(HEADERS, END_HEADERS, 1, block([(b"x-t", b"1")])))
case("CONTINUATION of a field cut in two", frame(HEADERS, END_STREAM, 1, block(BASE)[:9]) + frame(CONTINUATION, END_HEADERS, 1, block(BASE)[9:]), True)
case("another stream between HEADERS and CONTINUATION", frame(HEADERS, END_STREAM, 1, block(BASE)[:9])
     + frame(HEADERS, END_HEADERS | END_STREAM, 3, block(BASE)) + frame(CONTINUATION, END_HEADERS, 1, block(BASE)[9:]))
