"""A name server on UDP that says what a test tells it."""

import socket
import struct
import threading

A, SRV = 1, 33


class Dns:
    """Names it was told nothing of do not exist. `fails` makes it answer SERVFAIL to everything."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.records, self.fails, self.asked = {}, False, []
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.close()

    def a(self, name, *addresses, ttl=1):
        self.records[name, A] = [(ttl, socket.inet_aton(address)) for address in addresses]

    def srv(self, name, *services, ttl=1):
        """Services are (priority, weight, port, target)."""
        self.records[name, SRV] = [
            (ttl, struct.pack(">HHH", *numbers) + wire_name(target)) for *numbers, target in services]

    def _serve(self):
        while True:
            try:
                question, client = self.socket.recvfrom(1500)
            except OSError:
                return
            name, kind = read_question(question)
            self.asked.append((name, kind))
            records = self.records.get((name, kind), [])
            known = any(known == name for known, _ in self.records)
            code = 2 if self.fails else 0 if known else 3
            answer = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 0 if code else len(records), 0, 0) + question[12:]
            if not code:
                for ttl, data in records:
                    answer += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data
            self.socket.sendto(answer, client)


def wire_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def read_question(message):
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), struct.unpack(">H", message[at + 1:at + 3])[0]
