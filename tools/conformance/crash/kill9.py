"""Kill -9 under mixed load, again and again: every 202 and every confirm must be there afterwards.

`python tools/conformance/crash/kill9.py --rounds 50 --bin target/release/sluicegate`

A round: publishers over AMQP (pipelined confirms) and over HTTP (202), consumers that ack most of what they get, a kill at
a random moment, a restart on the same directory. After the last round everything left is drained and compared with what
was promised (ledger.py). Exit code 1 on any loss, disorder, duplicate, damaged body or acked message that came back.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from ledger import Ledger, make_body  # noqa: E402
from pika import spec  # noqa: E402

from harness.amqp_raw import RawAmqp, frame, header_frame, method_frame  # noqa: E402
from harness.server import Server  # noqa: E402

QUEUE = "crash"
CONFIG = {"services": [{"name": "intake", "protocol": "queue", "host": QUEUE,
                        "routes": [{"name": "post-crash", "methods": ["POST"], "paths": ["/crash"]}]}]}
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

    def next_body(self):
        number = self.run_state.next_number(self.name)
        self.run_state.ledger.sending(self.name, number)
        return number, make_body(self.name, number, body_size(self.rng))


class AmqpPublisher(Worker):
    """Publishes persistent messages with confirms, a window of them in flight."""

    def work(self):
        with RawAmqp("127.0.0.1", self.run_state.server.ports["amqp"]) as raw:
            raw.handshake().open_channel(1)
            raw.send_method(1, spec.Confirm.Select())
            raw.expect(spec.Confirm.SelectOk, 1)
            publish = method_frame(1, spec.Basic.Publish(exchange="", routing_key=QUEUE))
            tag, outstanding = 0, {}
            while not self.run_state.killing.is_set():
                chunks = []
                while len(outstanding) < WINDOW and len(chunks) < 16:
                    number, body = self.next_body()
                    tag += 1
                    outstanding[tag] = number
                    chunks.append(publish + header_frame(1, len(body), PERSISTENT))
                    chunks += [frame(3, 1, body[at:at + 131064]) for at in range(0, len(body), 131064)]
                raw.socket.sendall(b"".join(chunks))
                if len(outstanding) >= WINDOW or self.rng.random() < 0.3:
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
            self.run_state.ledger.promise(self.name, outstanding.pop(tag), "confirm")


class HttpPublisher(Worker):
    """POSTs one after the other over one connection; a 202 is a promise."""

    def work(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.run_state.server.ports["http"], timeout=10)
        with contextlib.closing(connection):
            while not self.run_state.killing.is_set():
                number, body = self.next_body()
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

    def work(self):
        order = {}
        with RawAmqp("127.0.0.1", self.run_state.server.ports["amqp"]) as raw:
            raw.handshake().open_channel(1)
            raw.send_method(1, spec.Basic.Qos(prefetch_count=PREFETCH))
            raw.expect(spec.Basic.QosOk, 1)
            raw.send_method(1, spec.Basic.Consume(queue=QUEUE))
            raw.expect(spec.Basic.ConsumeOk, 1)
            while True:
                deliver, body = read_delivery(raw)
                message = self.run_state.ledger.delivery(order, body, deliver.redelivered)
                if message is not None and self.rng.random() < 0.8:
                    # Noted first: an ack the server got must never look like a message that was lost.
                    self.run_state.ledger.ack(message)
                    raw.socket.sendall(method_frame(1, spec.Basic.Ack(deliver.delivery_tag)))


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


def queue_depth(server):
    with RawAmqp("127.0.0.1", server.ports["amqp"], timeout_s=15) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=QUEUE, passive=True))
        return raw.expect(spec.Queue.DeclareOk, 1).message_count


def drain(server):
    """Everything in the queue, in order, as (body, redelivered)."""
    count, taken = queue_depth(server), []
    with RawAmqp("127.0.0.1", server.ports["amqp"], timeout_s=15) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Basic.Consume(queue=QUEUE, no_ack=True))
        raw.expect(spec.Basic.ConsumeOk, 1)
        while len(taken) < count:
            deliver, body = read_delivery(raw)
            taken.append((body, deliver.redelivered))
    assert queue_depth(server) == 0, "more in the queue than it said"
    return taken


class Run:
    """All rounds on one data directory."""

    def __init__(self, server, seed, amqp_publishers=2, http_publishers=2, consumers=2):
        self.server, self.seed, self.ledger = server, seed, Ledger()
        self.rng = random.Random(seed)
        self.killing = threading.Event()
        self.numbers = {}
        self.names = ([(AmqpPublisher, f"amqp{n}") for n in range(amqp_publishers)]
                      + [(HttpPublisher, f"http{n}") for n in range(http_publishers)]
                      + [(Consumer, f"consumer{n}") for n in range(consumers)])
        self.failures = []

    def next_number(self, name):
        self.numbers[name] = self.numbers.get(name, -1) + 1
        return self.numbers[name]

    def round(self, index):
        """Load, kill, restart; returns this round's line."""
        before = (self.promises("confirm"), self.promises("202"), self.ledger.delivered, len(self.ledger.acked))
        self.killing.clear()
        workers = [kind(self, name) for kind, name in self.names]
        for worker in workers:
            worker.rng = random.Random(f"{self.seed}/{index}/{worker.name}")
            worker.start()
        time.sleep(self.rng.uniform(0.3, 1.5))
        self.killing.set()
        self.server.kill()
        killed_at = time.monotonic()
        for worker in workers:
            worker.join(timeout=15)
            if worker.is_alive():
                self.failures.append(f"round {index}: {worker.name} hangs")
            elif worker.failure:
                self.failures.append(f"round {index}: {worker.failure}")
        # Only now: what the consumers still found in their sockets was delivered and acked in the life that is over.
        self.ledger.killed(killed_at)
        self.server.start()
        recovered, expected = queue_depth(self.server), len(self.ledger.waiting())
        if recovered < expected:
            self.failures.append(f"round {index}: {recovered} messages recovered, {expected} promised and not acked")
        after = (self.promises("confirm"), self.promises("202"), self.ledger.delivered, len(self.ledger.acked))
        confirmed, accepted, delivered, acked = (b - a for a, b in zip(before, after))
        return (f"round {index + 1:3}: confirmed {confirmed:6}  202s {accepted:5}  delivered {delivered:6}  "
                f"acked {acked:6}  recovered {recovered:6} (≥ {expected})  ready in {self.server.started_in_ms:.0f} ms")

    def promises(self, how):
        with self.ledger.lock:
            return sum(kind == how for kind in self.ledger.promised.values())

    def finish(self):
        """Drains and compares; returns (line, ok)."""
        left = self.ledger.drained(drain(self.server))
        ledger = self.ledger
        line = (f"total: confirmed {self.promises('confirm')}  202s {self.promises('202')}  delivered {ledger.delivered} "
                f"(redelivered {ledger.redelivered})  acked {len(ledger.acked)}  drained {len(left)}  "
                f"unanswered but kept {len(left - set(ledger.promised))}  lost={len(ledger.lost)} "
                f"disordered={len(ledger.disordered)} duplicated={len(ledger.duplicated)} "
                f"resurrected={len(ledger.resurrected)} damaged={len(ledger.damaged)} phantoms={len(ledger.phantoms)}")
        return line, not ledger.problems() and not self.failures


def prove(server, rounds, seed, say=print, **workers):
    """Runs everything; returns the Run, whose `ledger` and `failures` say what was found."""
    server.start()
    run = Run(server, seed, **workers)
    for index in range(rounds):
        say(run.round(index))
    line, ok = run.finish()
    say(line)
    for failure in run.failures:
        say(f"FAILED {failure}")
    for what, examples in run.ledger.problems().items():
        say(f"FAILED {what}, for example {examples}")
    return run, ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--bin", required=True, help="the sluicegate binary")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    print(f"kill -9, {arguments.rounds} rounds, seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kill9-") as folder:
        server = Server(folder, CONFIG, bin_path=arguments.bin)
        began = time.monotonic()
        try:
            run, ok = prove(server, arguments.rounds, arguments.seed, lambda line: print(line, flush=True))
            server.stop()
        finally:
            if server.alive():
                server.kill()
        assert run.ledger.promised, "nothing was promised: the load did not run"
    print(f"{'ok' if ok else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
