"""HTTP/2 by the byte: frames, header blocks that no library would write, and what came back (RFC 9113, RFC 7541)."""

import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
#: `:status` of the static table.
STATUSES = {0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500}
#: Huffman codes of the digits (RFC 7541 appendix B): 0, 1, 2 have five bits, the others six.
DIGITS = {"00000": "0", "00001": "1", "00010": "2", "011001": "3", "011010": "4", "011011": "5", "011100": "6",
          "011101": "7", "011110": "8", "011111": "9"}


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(value, prefix, first=0):
    """An HPACK integer with a prefix of so many bits."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def block(fields):
    """Literals without indexing and without Huffman: every byte as it is."""
    return b"".join(b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value for name, value in fields)


def status_of(payload):
    """The status of a response's header block, which hyper writes first; None if it is written in a way not known here."""
    if payload[0] in STATUSES:
        return STATUSES[payload[0]]
    if payload[0] & 0xc0 == 0x40 or payload[0] & 0xf0 in (0, 0x10):
        length = payload[1] & 0x7f
        text = payload[2:2 + length]
        if not payload[1] & 0x80:
            return int(text)
        bits, out = "".join(f"{byte:08b}" for byte in text), ""
        while len(out) < 3:
            for size in (5, 6):
                if bits[:size] in DIGITS:
                    out, bits = out + DIGITS[bits[:size]], bits[size:]
                    break
            else:
                return None
        return int(out)
    return None


class Outcome:
    """What a connection brought: the status of each stream, the streams that were reset, whether it ended, and how."""

    def __init__(self):
        self.statuses, self.resets, self.goaway, self.closed = {}, {}, None, False

    def __repr__(self):
        return f"<statuses {self.statuses}, resets {self.resets}, goaway {self.goaway}, closed {self.closed}>"


def converse(port, payload, streams=(1,), within_s=5):
    """Sends the bytes after preface and settings; reads until these streams have an answer or the connection ends."""
    outcome = Outcome()
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as s:
        s.settimeout(0.2)
        came, deadline = b"", time.monotonic() + within_s
        try:
            s.sendall(PREFACE + frame(SETTINGS, 0, 0) + payload)
        except OSError:
            pass
        while time.monotonic() < deadline:
            try:
                piece = s.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                piece = b""
            outcome.closed = not piece
            came = take_frames(came + piece, outcome, s)
            if outcome.closed or all(n in outcome.statuses or n in outcome.resets for n in streams):
                break
    return outcome


def take_frames(came, outcome, s):
    while len(came) >= 9:
        length, kind, flags = int.from_bytes(came[:3], "big"), came[3], came[4]
        stream = int.from_bytes(came[5:9], "big") & 0x7fffffff
        if len(came) < 9 + length:
            break
        payload, came = came[9:9 + length], came[9 + length:]
        if kind == HEADERS and stream not in outcome.statuses:
            outcome.statuses[stream] = status_of(payload)
        elif kind == RST_STREAM:
            outcome.resets[stream] = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            outcome.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == SETTINGS and not flags & 1:
            try:
                s.sendall(frame(SETTINGS, 1, 0))
            except OSError:
                pass
    return came
