"""Requests over HTTP/1.1 that two readers could take for different things, as data.

A case is (name, bytes, statuses). The statuses are those it may be refused with, or `CLEAN`: it has one meaning, and the upstream
must get exactly that. Whatever follows in the bytes is the smuggled request, which no upstream may ever see.
"""

HOST = b"Host: a\r\n"
#: Sent behind every case; it ends the connection, so that whoever is taken for a request of its own is the last.
TAIL = b"GET /x/smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CLEAN = (200,)
BAD = (400,)
BAD_ENCODING = (400, 501)


def post(*lines, body=b"", target=b"/x/y", version=b"HTTP/1.1"):
    head = b"POST " + target + b" " + version + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines)
    return head + b"\r\n" + body


def get(*lines, target=b"/x/y", host=HOST):
    return b"GET " + target + b" HTTP/1.1\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CL, TE = b"Content-Length: ", b"Transfer-Encoding: "

#: Spellings of the encoding. Alone, those that RFC 9112 allows are taken; beside a length none is.
PLAIN_ENCODINGS = [b"chunked", b"Chunked", b"CHUNKED", b"chUnKeD", b" chunked", b"\tchunked", b"chunked ", b"chunked\t"]
ODD_ENCODINGS = [
    b"", b"identity", b"xchunked", b"chunkedx", b"chunke", b"chunked,", b",chunked", b"chunked, ", b", chunked",
    b"chunked, identity", b"identity, chunked", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked chunked",
    b"chunked;q=1", b"chunked;", b"chunked;a=b", b"chunked=1", b'"chunked"', b"'chunked'", b"\\chunked", b"chunked\\",
    b"chunk ed", b"chunked\x00", b"\x00chunked", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\x0c", b"\x1fchunked",
    b"chunked\x7f", b"\x85chunked", b"\xa0chunked", b"chunked\xa0", b"\xef\xbb\xbfchunked", b"chun\xe2\x80\x8bked", b"%63hunked",
    b"c\xd2\xbbunked", b"chunked\r", b"\rchunked", b"x\rTransfer-Encoding: chunked", b"cow", b"null", b"deflate", b"compress", b"br",
]
#: Spellings of the field's name.
ODD_NAMES = [
    b"Transfer-Encoding ", b"Transfer-Encoding\t", b"Transfer-Encoding\x0b", b"Transfer-Encoding\x00", b"Transfer-Encoding\r",
    b"Transfer-Encoding\n", b" Transfer-Encoding", b"\tTransfer-Encoding", b"\x0bTransfer-Encoding", b"\x00Transfer-Encoding",
    b"Transfer Encoding", b"Transfer_Encoding", b"transfer_encoding", b"Transfer-Encoding:", b"X:X\nTransfer-Encoding",
    b"X:X\rTransfer-Encoding", b"Transfer-Encoding\xa0", b"Transfer\xadEncoding", b"\"Transfer-Encoding\"", b"Transfer-Encoding\\",
    b"(Transfer-Encoding)", b"Transfer-Encoding@",
]
ODD_LENGTHS = [
    b"", b"+5", b"-5", b"-0", b"+0", b"0x5", b"0X5", b"5h", b"5 ", b"5\t", b"5,5", b"5, 5", b"5, 6", b",5", b"5,", b"5;", b"5.0", b"5e0", b"5 5", b"5_0", b"'5'",
    b'"5"', b"0b101", b"0o5", b"five", b"\x0b5", b"5\x0b", b"5\x00", b"\x005", b"\xa05", b"\xd9\xa5", b"18446744073709551616", b"18446744073709551621",
    b"9223372036854775808", b"99999999999999999999999999", b"5\r", b"\r5", b"5\rX: y", b"NaN", b"1e1", b"\xef\xbc\x95",
]
ODD_LENGTH_NAMES = [
    b"Content-Length ", b"Content-Length\t", b"Content-Length\x00", b"Content-Length\x0b", b" Content-Length", b"\tContent-Length",
    b"Content_Length", b"content_length", b"Content Length", b"Content-Length:", b"X:X\nContent-Length", b"X:X\rContent-Length",
    b"Content-Length\xa0", b"Content-Length\r",
]
#: OWS around a value is no part of it.
PLAIN_LENGTHS = {b"5 ", b"5\t"}

CASES = []


def case(name, payload, statuses=BAD):
    CASES.append((name, payload, statuses))


for value in PLAIN_ENCODINGS:
    case(f"TE {value!r}", post(TE + value, body=CHUNKS), CLEAN)
    case(f"CL and TE {value!r}", post(CL + b"4", TE + value, body=CHUNKS))
    case(f"TE {value!r} and CL", post(TE + value, CL + b"4", body=CHUNKS))
for value in ODD_ENCODINGS:
    case(f"TE {value!r}", post(TE + value, body=CHUNKS), BAD_ENCODING)
    case(f"TE chunked and TE {value!r}", post(TE + b"chunked", TE + value, body=CHUNKS), BAD_ENCODING)
    case(f"CL and TE {value!r}", post(CL + b"4", TE + value, body=CHUNKS), BAD_ENCODING)
for name in ODD_NAMES:
    case(f"name {name!r}", post(name + b": chunked", body=CHUNKS), BAD_ENCODING)
    case(f"CL and name {name!r}", post(CL + b"4", name + b": chunked", body=CHUNKS))
    case(f"TE identity and name {name!r}", post(TE + b"identity", name + b": chunked", body=CHUNKS), BAD_ENCODING)
for value in ODD_LENGTHS:
    case(f"CL {value!r}", post(CL + value, body=b"hello"), CLEAN if value in PLAIN_LENGTHS else BAD)
    case(f"CL 5 and CL {value!r}", post(CL + b"5", CL + value, body=b"hello"))
for name in ODD_LENGTH_NAMES:
    case(f"name {name!r}", post(name + b": 5", body=b"hello"))
    case(f"CL and name {name!r}", post(CL + b"0", name + b": 5", body=b"hello"))

case("CL with leading zeros", post(CL + b"0000000005", body=b"hello"), CLEAN)
case("two equal CL", post(CL + b"5", CL + b"5", body=b"hello"))
case("two different CL", post(CL + b"5", CL + b"0", body=b"hello"))
case("CL first, then folded TE", post(CL + b"5", b"Transfer-Encoding:\r\n chunked", body=CHUNKS))
case("folded CL", post(b"Content-Length:\r\n 5", body=b"hello"))
case("folded value", get(b"X: a\r\n b"))
case("folded with a tab", get(b"X: a\r\n\tTransfer-Encoding: chunked"))
case("TE and CL in one folded line", post(b"X: y\r\n Content-Length: 5", body=b"hello"))
case("TE in HTTP/1.0", post(TE + b"chunked", body=CHUNKS, version=b"HTTP/1.0"))
case("CL and TE in HTTP/1.0", post(CL + b"4", TE + b"chunked", body=CHUNKS, version=b"HTTP/1.0"))
case("GET with a body", get(CL + b"5") + b"hello", CLEAN)
case("GET with chunks", get(TE + b"chunked") + CHUNKS, CLEAN)
case("GET with CL and TE", get(CL + b"4", TE + b"chunked") + CHUNKS)
for name in [b"content-length", b"transfer-encoding", b"host", b"Content-Length, close", b"close, Transfer-Encoding"]:
    case(f"Connection names {name!r}", post(b"Connection: " + name, CL + b"5", body=b"hello"))
case("Connection names TE with chunks", post(b"Connection: transfer-encoding", TE + b"chunked", body=CHUNKS))

# A switch to another HTTP would take what follows past the gateway; without it the request is an ordinary one.
SETTINGS = b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"
for value in [b"h2c", b"H2C", b"h2", b"HTTP/2.0", b"TLS/1.2", b"h2c, websocket", b"websocket, h2c", b"h2c\t", b"h2c,"]:
    case(f"upgrade to {value!r}", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + value, SETTINGS), (200, 400, 501))
case("upgrade to h2c that Connection does not name", get(b"Upgrade: h2c", SETTINGS), (200, 400, 501))

# Line ends and control characters.
case("bare LF after the request line", b"GET /x/y HTTP/1.1\n" + HOST + b"\r\n")
case("bare LF after a field", b"GET /x/y HTTP/1.1\r\nHost: a\n\r\n")
case("bare LF only", b"GET /x/y HTTP/1.1\nHost: a\n\n")
case("bare LF ends the head", b"GET /x/y HTTP/1.1\r\nHost: a\r\n\n")
case("CR CR LF", b"GET /x/y HTTP/1.1\r\nHost: a\r\r\n\r\n")
case("bare CR after the request line", b"GET /x/y HTTP/1.1\rHost: a\r\n\r\n")
case("bare CR in a value", get(b"X: a\rb"))
case("bare CR hides a field", get(b"X: a\rTransfer-Encoding: chunked"))
case("LF hides a field", get(b"X: a\nTransfer-Encoding: chunked"))
case("LF CR", b"GET /x/y HTTP/1.1\r\nHost: a\n\r\r\n\r\n")
case("two empty lines first", b"\r\n\r\n" + get())
case("an empty line with LF first", b"\n" + get())
for byte in (0, 1, 8, 0x0b, 0x0c, 0x1f, 0x7f):
    case(f"byte {byte:#x} in a value", get(b"X: a" + bytes([byte]) + b"b"))
    case(f"byte {byte:#x} in a name", get(b"X" + bytes([byte]) + b": a"))
    case(f"byte {byte:#x} in the target", get(target=b"/x/" + bytes([byte])))
    case(f"byte {byte:#x} in the host", get(host=b"Host: a" + bytes([byte]) + b"\r\n"))
case("no colon", get(b"nonsense"))
case("empty name", get(b": a"))
case("space before the first field", b"GET /x/y HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n")

# The request line and the host.
for name, line in [("two spaces", b"GET  /x/y HTTP/1.1"), ("a tab", b"GET\t/x/y HTTP/1.1"), ("a trailing space", b"GET /x/y HTTP/1.1 "),
                   ("a space in the target", b"GET /x/y z HTTP/1.1"), ("a second version", b"GET /x/y HTTP/1.1 HTTP/1.1"),
                   ("no version", b"GET /x/y"), ("no target", b"GET HTTP/1.1"), ("a lower-case version", b"GET /x/y http/1.1"),
                   ("a leading space", b" GET /x/y HTTP/1.1"), ("a colon in the method", b"GET: /x/y HTTP/1.1"),
                   ("a relative target", b"GET x/y HTTP/1.1"), ("a fragment", b"GET #y HTTP/1.1"), ("nothing", b" "),
                   ("an encoded version", b"GET /x/y HTTP%2F1.1"), ("a comma in the version", b"GET /x/y HTTP/1,1")]:
    case(f"request line with {name}", line + b"\r\n" + HOST + b"\r\n")
for version in [b"HTTP/1.10", b"HTTP/01.1", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/1", b"HTTP/1.1.1", b"HTTP /1.1", b"HTPT/1.1"]:
    case(f"version {version!r}", b"GET /x/y " + version + b"\r\n" + HOST + b"\r\n", (400, 505))
case("no Host", get(host=b""))
case("two Hosts", get(host=b"Host: a\r\nHost: b\r\n"))
case("two equal Hosts", get(host=HOST + HOST))
for host in [b"a b", b"a/b", b"u@a", b"a, b", b"a#b", b"a?b", b"a\\b", b"a:b:c", b"a:99999x", b"[::1", b"http://a", b"a\xff"]:
    case(f"Host {host!r}", get(host=b"Host: " + host + b"\r\n"))
case("absolute target with another host", get(target=b"http://b/x/y"), (200, 400))
case("absolute target with the same host", get(target=b"http://a/x/y"), CLEAN)
case("absolute target with a user", get(target=b"http://u@a/x/y"))
case("absolute target of https", get(target=b"https://a/x/y"), (200, 400))
case("authority target", b"GET a:80 HTTP/1.1\r\n" + HOST + b"\r\n")
case("asterisk target", b"GET * HTTP/1.1\r\n" + HOST + b"\r\n")

# Chunks.
for name, chunks in [
    ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"), ("a plus", b"+5\r\nhello\r\n0\r\n\r\n"), ("a minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a leading space", b" 5\r\nhello\r\n0\r\n\r\n"), ("a trailing space", b"5 \r\nhello\r\n0\r\n\r\n"), ("a trailing tab", b"5\t\r\nhello\r\n0\r\n\r\n"),
    ("no size", b"\r\nhello\r\n0\r\n\r\n"), ("a letter", b"5g\r\nhello\r\n0\r\n\r\n"), ("an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    ("2^64 more", b"10000000000000005\r\nhello\r\n0\r\n\r\n"), ("2^63", b"8000000000000000\r\nhello\r\n0\r\n\r\n"),
    ("2^32 more in a long size", b"0000000000000000000000000000000100000005\r\nhello\r\n0\r\n\r\n"), ("hundred zeros", b"0" * 100 + b"5\r\nhello\r\n0\r\n\r\n"),
    ("LF", b"5\nhello\r\n0\r\n\r\n"), ("CR", b"5\rhello\r\n0\r\n\r\n"), ("CR CR LF", b"5\r\r\nhello\r\n0\r\n\r\n"),
    ("data ended by LF", b"5\r\nhello\n0\r\n\r\n"), ("data ended by CR", b"5\r\nhello\r0\r\n\r\n"), ("data not ended", b"5\r\nhello0\r\n\r\n"),
    ("data ended by two bytes", b"5\r\nhelloXX0\r\n\r\n"), ("data too long", b"5\r\nhello world\r\n0\r\n\r\n"),
    ("a last chunk with LF", b"5\r\nhello\r\n0\n\r\n"), ("an end with LF", b"5\r\nhello\r\n0\r\n\n"), ("an end with CR", b"5\r\nhello\r\n0\r\n\r\r\n"),
    ("an extension with LF", b"5;a\nhello\r\n0\r\n\r\n"), ("an extension with CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("an extension with NUL", b"5;a\0\r\nhello\r\n0\r\n\r\n"), ("a quoted line end in an extension", b'5;a="\nb"\r\nhello\r\n0\r\n\r\n'),
    ("a comma", b"5,\r\nhello\r\n0\r\n\r\n"), ("a non-ASCII digit", b"\xd9\xa5\r\nhello\r\n0\r\n\r\n"),
    ("a trailer that frames by length", b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
    ("a trailer that frames by encoding", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("a folded trailer", b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n"), ("a trailer without a colon", b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n"),
    ("a trailer with LF", b"5\r\nhello\r\n0\r\nX: a\n\r\n"), ("a trailer with a space before its colon", b"5\r\nhello\r\n0\r\nX : a\r\n\r\n"),
    ("a trailer with NUL", b"5\r\nhello\r\n0\r\nX: a\0\r\n\r\n"),
]:
    case(f"chunk with {name}", post(TE + b"chunked", body=chunks))
case("chunk with an extension", post(TE + b"chunked", body=b"5;a=b\r\nhello\r\n0;last\r\n\r\n"), CLEAN)
case("chunk with leading zeros", post(TE + b"chunked", body=b"0005\r\nhello\r\n00\r\n\r\n"), CLEAN)
case("chunk with a trailer that names a host", post(TE + b"chunked", body=b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n"), (200, 400))
case("chunk with a trailer", post(TE + b"chunked", body=b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), CLEAN)
