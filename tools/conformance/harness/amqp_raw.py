"""AMQP 0-9-1 over a bare socket, for what a well-behaved client would never send.

Methods are encoded with pika's generated classes; everything about framing is done here, so that it can be done wrong.
"""

import contextlib
import socket
import struct
import time

import pika.frame
from pika import spec

from harness.definitions import password_of

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, CONTENT_HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, 0xCE


def frame(kind, channel, payload, end=END):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


def method_frame(channel, method):
    return pika.frame.Method(channel, method).marshal()


def header_frame(channel, size, properties=None):
    return pika.frame.Header(channel, size, properties or spec.BasicProperties()).marshal()


def plain(user="guest", password=None):
    return b"\x00%s\x00%s" % (user.encode(), (password_of(user) if password is None else password).encode())


class RawAmqp:
    """One TCP connection. `read_frame` returns (type, channel, payload), or None when the server closed it."""

    def __init__(self, host, port, timeout_s=5):
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, *chunks):
        """Sends bytes; a peer that has already closed is not an error here, the read afterwards tells."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(b"".join(chunks))

    def send_method(self, channel, method):
        self.send(method_frame(channel, method))

    def _fill(self, count):
        while len(self.buffer) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return False
            self.buffer += data
        return True

    def read_bytes(self, count):
        assert self._fill(count), f"closed after {self.buffer!r}"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read_frame(self):
        if not self._fill(7):
            return None
        kind, channel, size = struct.unpack(">BHI", self.buffer[:7])
        if not self._fill(8 + size):
            return None
        payload, end = self.buffer[7:7 + size], self.buffer[7 + size]
        assert end == END, f"the server ended a frame with {end:#x}"
        self.buffer = self.buffer[8 + size:]
        return kind, channel, payload

    def read_method(self):
        """The next method as (channel, pika method object); heartbeats are passed over. None when closed."""
        while (got := self.read_frame()) is not None:
            kind, channel, payload = got
            if kind == HEARTBEAT:
                continue
            assert kind == METHOD, f"expected a method frame, got type {kind}"
            _, decoded = pika.frame.decode_frame(frame(kind, channel, payload))
            return channel, decoded.method
        return None

    def expect(self, method_class, channel=None):
        got = self.read_method()
        assert got is not None, f"closed while waiting for {method_class.NAME}"
        assert isinstance(got[1], method_class), f"expected {method_class.NAME}, got {got[1]!r}"
        assert channel is None or got[0] == channel
        return got[1]

    def eof(self, within_s=5):
        """True if the server closes the TCP connection in time; what still comes is thrown away."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(max(left, 0.01))
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False
        return False

    # --- the handshake, in steps -----------------------------------------------------------------------------------

    def greet(self):
        self.send(HEADER)
        return self.expect(spec.Connection.Start, 0)

    def login(self, user="guest", password=None, mechanism="PLAIN", response=None, properties=None):
        """start-ok; the answer is tune, or close."""
        response = plain(user, password) if response is None else response
        properties = {"capabilities": {"authentication_failure_close": True}} if properties is None else properties
        self.send_method(0, spec.Connection.StartOk(properties, mechanism, response, "en_US"))

    def handshake(self, user="guest", vhost="/", channel_max=2047, frame_max=131072, heartbeat=0, properties=None):
        self.greet()
        self.login(user, properties=properties)
        self.expect(spec.Connection.Tune, 0)
        self.send_method(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat))
        self.send_method(0, spec.Connection.Open(vhost))
        self.expect(spec.Connection.OpenOk, 0)
        return self

    def open_channel(self, number=1):
        self.send_method(number, spec.Channel.Open())
        self.expect(spec.Channel.OpenOk, number)
        return self

    def expect_close(self, code, text, class_id=None, method_id=None):
        """connection.close with exactly this; answered, after which the server must close the socket."""
        close = self.expect(spec.Connection.Close, 0)
        assert (close.reply_code, close.reply_text) == (code, text)
        if class_id is not None:
            assert (close.class_id, close.method_id) == (class_id, method_id)
        self.send_method(0, spec.Connection.CloseOk())
        assert self.eof(), "the socket stays open after close-ok"
        return close
