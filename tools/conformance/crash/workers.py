"""The clients of a round of kill -9: publishers that note what they were promised, consumers that note what they got.

Each notes in the ledger of the queue. What goes to several queues at once is in spread.py.
"""

import contextlib
import http.client
import json
import random
import threading

from ledger import make_body
from pika import spec

from harness.amqp_raw import RawAmqp, frame, header_frame, method_frame

QUEUE = "crash"
WINDOW = 64
PREFETCH = 400
PERSISTENT = spec.BasicProperties(delivery_mode=2)
# What a client sees of a server that is being killed under it.
GONE = (OSError, http.client.HTTPException, EOFError)


class Closed(EOFError):
    """The server closed the connection."""


def body_size(rng):
    """Mostly small, sometimes past a page, now and then past any buffer."""
    return rng.choices((rng.randint(0, 200), rng.randint(200, 5000), rng.randint(100_000, 300_000)),
                       (90, 9.7, 0.3))[0]


class Worker(threading.Thread):
    """A client of one round. An error before the kill is a failure of the test, after it the expected end."""

    def __init__(self, run, name):
        super().__init__(name=name, daemon=True)
        self.run_state, self.name = run, name
        self.rng = random.Random(f"{run.seed}/{name}")
        self.failure = None

    def run(self):
        try:
            self.work()
        except GONE as gone:
            if not self.run_state.killing.is_set():
                self.failure = f"{self.name}: {gone!r} while the server was up"
        except Exception as error:  # noqa: BLE001; a bug in the test or a broken server: reported either way
            self.failure = f"{self.name}: {error!r}"

    def next_body(self, ledgers):
        number = self.run_state.next_number(self.name)
        for ledger in ledgers:
            ledger.sending(self.name, number)
        return number, make_body(self.name, number, body_size(self.rng))

    def connect(self):
        """A connection with channel 1 open."""
        raw = RawAmqp("127.0.0.1", self.run_state.server.ports["amqp"])
        return raw.handshake().open_channel(1)


def message_frames(body):
    """What follows a basic.publish on channel 1."""
    return [header_frame(1, len(body), PERSISTENT),
            *(frame(3, 1, body[at:at + 131064]) for at in range(0, len(body), 131064))]


class AmqpPublisher(Worker):
    """Publishes persistent messages with confirms, a window of them in flight."""

    exchange, key, window = "", QUEUE, WINDOW

    def ledgers(self):
        """Those of the queues that a message goes to."""
        return [self.run_state.ledger]

    def work(self):
        with self.connect() as raw:
            raw.send_method(1, spec.Confirm.Select())
            raw.expect(spec.Confirm.SelectOk, 1)
            publish = method_frame(1, spec.Basic.Publish(exchange=self.exchange, routing_key=self.key))
            tag, outstanding = 0, {}
            while not self.run_state.killing.is_set():
                chunks = []
                while len(outstanding) < self.window and len(chunks) < 16:
                    number, body = self.next_body(self.ledgers())
                    tag += 1
                    outstanding[tag] = number
                    chunks += [publish, *message_frames(body)]
                raw.socket.sendall(b"".join(chunks))
                if len(outstanding) >= self.window or self.rng.random() < 0.3:
                    self.confirm(raw, outstanding)
            while outstanding:
                self.confirm(raw, outstanding)

    def confirm(self, raw, outstanding):
        got = raw.read_method()
        if got is None:
            raise Closed("while waiting for a confirm")
        assert isinstance(got[1], spec.Basic.Ack), f"expected basic.ack, got {got[1]!r}"
        highest = got[1].delivery_tag
        tags = [tag for tag in outstanding if tag <= highest] if got[1].multiple else [highest]
        for tag in tags:
            number = outstanding.pop(tag)
            for ledger in self.ledgers():
                ledger.promise(self.name, number, "confirm")


class HttpPublisher(Worker):
    """POSTs one after the other over one connection; a 202 is a promise."""

    def work(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.run_state.server.ports["http"], timeout=10)
        with contextlib.closing(connection):
            while not self.run_state.killing.is_set():
                number, body = self.next_body([self.run_state.ledger])
                connection.request("POST", "/crash", body)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 202 or json.loads(text)["status"] != "queued":
                    if self.run_state.killing.is_set():
                        return
                    raise AssertionError(f"expected 202 queued, got {answer.status} {text[:200]!r}")
                self.run_state.ledger.promise(self.name, number, "202")


class Consumer(Worker):
    """Takes with prefetch and acks four of five; what hangs uses up its prefetch, so a backlog builds up behind it."""

    queue = QUEUE
    # Of what is taken; what is neither hangs.
    acks, rejects = 0.8, 0.0

    def ledger(self):
        return self.run_state.ledger

    def work(self):
        order, ledger = {}, self.ledger()
        with self.connect() as raw:
            raw.send_method(1, spec.Basic.Qos(prefetch_count=PREFETCH))
            raw.expect(spec.Basic.QosOk, 1)
            raw.send_method(1, spec.Basic.Consume(queue=self.queue))
            raw.expect(spec.Basic.ConsumeOk, 1)
            while True:
                deliver, body = read_delivery(raw)
                message, chance = ledger.delivery(order, body, deliver.redelivered), self.rng.random()
                # Noted first: what the server got must never look like a message that was lost.
                if message is not None and chance < self.acks:
                    ledger.ack(message)
                    raw.send_method(1, spec.Basic.Ack(deliver.delivery_tag))
                elif message is not None and chance < self.acks + self.rejects:
                    ledger.reject(message)
                    raw.send_method(1, spec.Basic.Reject(deliver.delivery_tag, requeue=False))


def read_delivery(raw):
    """One basic.deliver with its body."""
    got = raw.read_method()
    if got is None:
        raise Closed("while waiting for a delivery")
    assert isinstance(got[1], spec.Basic.Deliver), f"expected basic.deliver, got {got[1]!r}"
    header = raw.read_frame()
    if header is None:
        raise Closed("in a delivery")
    size = int.from_bytes(header[2][4:12], "big")
    pieces, have = [], 0
    while have < size:
        piece = raw.read_frame()
        if piece is None:
            raise Closed("in a delivery")
        pieces.append(piece[2])
        have += len(piece[2])
    return got[1], b"".join(pieces)


def queue_depth(server, queue=QUEUE):
    """Messages that are ready."""
    with RawAmqp("127.0.0.1", server.ports["amqp"], timeout_s=15) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=queue, passive=True))
        return raw.expect(spec.Queue.DeclareOk, 1).message_count


def drain(server, queue=QUEUE):
    """Everything in the queue, in order, as (body, redelivered)."""
    count, taken = queue_depth(server, queue), []
    with RawAmqp("127.0.0.1", server.ports["amqp"], timeout_s=15) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Basic.Consume(queue=queue, no_ack=True))
        raw.expect(spec.Basic.ConsumeOk, 1)
        while len(taken) < count:
            deliver, body = read_delivery(raw)
            taken.append((body, deliver.redelivered))
    assert queue_depth(server, queue) == 0, "more in the queue than it said"
    return taken
