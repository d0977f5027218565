"""Kill -9 under mixed load, again and again: every 202, every confirm and every commit must be there afterwards.

`python tools/conformance/crash/kill9.py --rounds 50 --bin target/release/sluicegate`

A round: publishers over AMQP (pipelined confirms) and over HTTP (202), consumers that ack most of what they get, messages that
go to several queues through a fanout and in transactions, rejects that are dead-lettered (spread.py), a kill at a random
moment, a restart on the same directory. After the last round everything left is drained and compared with what was promised
in every queue (ledger.py). Exit code 1 on any loss, disorder, duplicate, damaged body, settled message that came back, or
message that is in some of its queues only.
"""

import argparse
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from ledger import Ledger  # noqa: E402
from spread import Spread, declare  # noqa: E402
from workers import QUEUE, AmqpPublisher, Consumer, HttpPublisher, drain, queue_depth  # noqa: E402

from harness.server import Server  # noqa: E402

CONFIG = {"services": [{"name": "intake", "protocol": "queue", "host": QUEUE,
                        "routes": [{"name": "post-crash", "methods": ["POST"], "paths": ["/crash"]}]}]}


class Run:
    """All rounds on one data directory."""

    def __init__(self, server, seed, amqp_publishers=2, http_publishers=2, consumers=2):
        self.server, self.seed, self.ledger, self.spread = server, seed, Ledger(), Spread()
        self.rng = random.Random(seed)
        self.killing = threading.Event()
        self.numbers = {}
        self.names = ([(AmqpPublisher, f"amqp{n}") for n in range(amqp_publishers)]
                      + [(HttpPublisher, f"http{n}") for n in range(http_publishers)]
                      + [(Consumer, f"consumer{n}") for n in range(consumers)] + list(Spread.workers))
        self.failures = []

    def next_number(self, name):
        self.numbers[name] = self.numbers.get(name, -1) + 1
        return self.numbers[name]

    def round(self, index):
        """Load, kill, restart; returns this round's line."""
        before = self.counts()
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
        self.spread.killed(killed_at)
        self.server.start()
        recovered, expected = queue_depth(self.server), len(self.ledger.waiting())
        if recovered < expected:
            self.failures.append(f"round {index}: {recovered} messages recovered, {expected} promised and not acked")
        self.failures += [f"round {index}: {what}" for what in self.spread.shortfalls(self.server)]
        confirmed, accepted, delivered, acked, spread, rejected = (b - a for a, b in zip(before, self.counts()))
        return (f"round {index + 1:3}: confirmed {confirmed:6}  202s {accepted:5}  delivered {delivered:6}  "
                f"acked {acked:6}  recovered {recovered:6} (≥ {expected})  to several queues {spread:5}  "
                f"rejected {rejected:5}  ready in {self.server.started_in_ms:.0f} ms")

    def counts(self):
        return (self.promises("confirm"), self.promises("202"), self.ledger.delivered, len(self.ledger.acked),
                self.spread.promises(), self.spread.rejects())

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
        self.spread.finish(self.server)
        return f"{line}\n{self.spread.line()}", not self.problems() and not self.failures

    def problems(self):
        return self.ledger.problems() | self.spread.problems()


def prove(server, rounds, seed, say=print, **workers):
    """Runs everything; returns the Run, whose `ledger` and `failures` say what was found."""
    server.start()
    declare(server)
    run = Run(server, seed, **workers)
    for index in range(rounds):
        say(run.round(index))
    line, ok = run.finish()
    say(line)
    for failure in run.failures:
        say(f"FAILED {failure}")
    for what, examples in run.problems().items():
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
        assert run.ledger.promised and run.spread.promises(), "nothing was promised: the load did not run"
    print(f"{'ok' if ok else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
