"""What the publishers were promised, what the consumers saw, and whether the two agree.

A message is (publisher, number). The promise: everything confirmed (a 202, a basic.ack or a tx.commit-ok) is delivered until it is
acked, or rejected and a dead letter;
what one publisher sent comes in its order unless redelivered; nothing comes twice unless redelivered or recovered. What
was sent and never answered may be there or not.
"""

import threading
import time
import zlib

# An ack older than this at the moment of the kill must have reached the disk: settles are flushed within 200 ms; the
# rest is for the ack to travel on a busy machine.
SETTLE_GRACE_S = 1.5


def make_body(publisher, number, size):
    """`publisher:number:crc:filler`, so that a damaged body is seen."""
    filler = (b"%s.%d/" % (publisher.encode(), number)) * (size // 8 + 1)
    filler = filler[:size]
    return b"%s:%d:%08x:" % (publisher.encode(), number, zlib.crc32(filler)) + filler


def parse_body(body):
    """(publisher, number), or None when the body is not what was sent."""
    try:
        publisher, number, crc, filler = body.split(b":", 3)
        if int(crc, 16) != zlib.crc32(filler):
            return None
        return publisher.decode(), int(number)
    except ValueError:
        return None


class Ledger:
    """Thread-safe bookkeeping over all rounds. `problems` is what must stay empty."""

    def __init__(self):
        self.lock = threading.Lock()
        self.promised = {}  # message -> "confirm" | "202" | "commit"
        self.acked = {}  # message -> (time of the ack, life of the server it was sent to)
        self.rejected = {}  # the same of rejects, after which it is a dead letter
        self.ever = set()  # delivered in any life
        self.life = 0
        self.delivered = 0
        self.redelivered = 0
        self.unpromised = set()  # delivered although never answered: allowed
        self.seen_now = set()  # delivered in this life of the server
        self.killed_at = None
        self.lost, self.disordered, self.duplicated, self.resurrected, self.damaged = [], [], [], [], []
        self.phantoms = []
        self.sent = {}  # publisher -> highest number handed to the socket

    def problems(self):
        return {name: getattr(self, name)[:10] for name in
                ("lost", "disordered", "duplicated", "resurrected", "damaged", "phantoms") if getattr(self, name)}

    def sending(self, publisher, number):
        with self.lock:
            self.sent[publisher] = number

    def promise(self, publisher, number, how):
        with self.lock:
            self.promised[publisher, number] = how

    def ack(self, message):
        with self.lock:
            self.acked[message] = (time.monotonic(), self.life)

    def reject(self, message):
        with self.lock:
            self.rejected[message] = (time.monotonic(), self.life)

    def _came_again(self, message):
        """A settled message may be back. Right only if the settle was too fresh to be on disk when the server was killed;
        then the server still has it, and it counts as not settled from here on."""
        for settled in (self.acked, self.rejected):
            if message not in settled:
                continue
            at, life = settled[message]
            if life == self.life or at < self.killed_at - SETTLE_GRACE_S:
                self.resurrected.append(message)
            else:
                del settled[message]

    def delivery(self, order, body, redelivered):
        """Notes a delivery; `order` is the consumer's own dict publisher → last number. Returns the message or None."""
        message = parse_body(body)
        with self.lock:
            self.delivered += 1
            self.redelivered += redelivered
            if message is None:
                self.damaged.append(body[:60])
                return None
            publisher, number = message
            if number > self.sent.get(publisher, -1):
                self.phantoms.append(message)
            if message not in self.promised:
                self.unpromised.add(message)
            if not redelivered:
                if message in self.seen_now:
                    self.duplicated.append(message)
                if number <= order.get(publisher, -1):
                    self.disordered.append((publisher, order[publisher], number))
                order[publisher] = number
            self._came_again(message)
            self.seen_now.add(message)
            self.ever.add(message)
        return message

    def killed(self, at):
        """The server's life ended at `at`, and nobody notes anything of it any more: whatever was delivered and not acked
        may come again, with any flag."""
        with self.lock:
            self.killed_at = at
            self.life += 1
            self.seen_now = set()

    def waiting(self):
        """Promised and not settled: at least these must be in the queue now."""
        with self.lock:
            return [message for message in self.promised if message not in self.acked and message not in self.rejected]

    def drained_dead(self, bodies):
        """The end of the dead letters, before that of the queue. Returns them; each was rejected, and is there once."""
        dead = set()
        for body in bodies:
            message = parse_body(body)
            if message is None:
                self.damaged.append(body[:60])
                continue
            if message in dead:
                self.duplicated.append(message)
            elif message not in self.rejected:
                # Never rejected, or it came again and was acked although it was here already.
                self.phantoms.append(message)
            dead.add(message)
        return dead

    def drained(self, bodies_and_flags, dead=frozenset()):
        """The end: all that was left, in queue order, redelivered or not; `dead` are dead letters of it. Everything promised
        must be accounted for."""
        order, left = {}, set()
        for body, _redelivered in bodies_and_flags:
            message = parse_body(body)
            if message is None:
                self.damaged.append(body[:60])
                continue
            publisher, number = message
            if message in left or message in dead:
                self.duplicated.append(message)
            elif number <= order.get(publisher, -1):
                self.disordered.append((publisher, order[publisher], number))
            order[publisher] = max(number, order.get(publisher, -1))
            self._came_again(message)
            left.add(message)
        self.lost = [message for message in self.promised
                     if message not in self.acked and message not in left and message not in dead]
        return left
