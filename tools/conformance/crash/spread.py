"""Messages that go to several queues at once: through a fanout, and in transactions; and rejects that are dead-lettered.

Each queue has a ledger of its own, so what is promised is promised in every queue it was routed to. Besides, a message is in
all of the queues or in none, whatever was answered; and a rejected one is in its queue or among the dead letters, never in
both and never in neither.
"""

from ledger import Ledger
from pika import spec
from workers import AmqpPublisher, Closed, Consumer, Worker, drain, message_frames, queue_depth

from harness.amqp_raw import RawAmqp, method_frame

EXCHANGE = "spread"
# What is rejected in the first goes to DEAD.
QUEUES = ("spread-a", "spread-b", "spread-c")
DEAD = "spread-dead"
# Of those who publish, few are in flight: the rest of the load is what is to be quick.
WINDOW = 16


def declare(server):
    """Makes the exchange and the queues."""
    with RawAmqp("127.0.0.1", server.ports["amqp"]) as raw:
        raw.handshake().open_channel(1)

        def ask(method, answer):
            raw.send_method(1, method)
            raw.expect(answer, 1)

        ask(spec.Exchange.Declare(exchange=EXCHANGE, type="fanout", durable=True), spec.Exchange.DeclareOk)
        ask(spec.Queue.Declare(queue=DEAD, durable=True), spec.Queue.DeclareOk)
        for queue in QUEUES:
            to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
            ask(spec.Queue.Declare(queue=queue, durable=True, arguments=to_dead if queue == QUEUES[0] else {}),
                spec.Queue.DeclareOk)
            ask(spec.Queue.Bind(queue=queue, exchange=EXCHANGE, routing_key=""), spec.Queue.BindOk)


class FanoutPublisher(AmqpPublisher):
    """Publishes to all queues with one publish; a confirm is a promise in each."""

    exchange, key, window = EXCHANGE, "", WINDOW

    def ledgers(self):
        return self.run_state.spread.ledgers.values()


class TxPublisher(Worker):
    """Publishes to each queue by itself, a few messages a transaction; commit-ok is a promise in each."""

    def work(self):
        ledgers = self.run_state.spread.ledgers.values()
        with self.connect() as raw:
            raw.send_method(1, spec.Tx.Select())
            raw.expect(spec.Tx.SelectOk, 1)
            while not self.run_state.killing.is_set():
                numbers, chunks = [], []
                for _ in range(self.rng.randint(1, 4)):
                    number, body = self.next_body(ledgers)
                    numbers.append(number)
                    for queue in QUEUES:
                        chunks += [method_frame(1, spec.Basic.Publish(exchange="", routing_key=queue)), *message_frames(body)]
                raw.socket.sendall(b"".join(chunks))
                raw.send_method(1, spec.Tx.Commit())
                got = raw.read_method()
                if got is None:
                    raise Closed("while waiting for commit-ok")
                assert isinstance(got[1], spec.Tx.CommitOk), f"expected tx.commit-ok, got {got[1]!r}"
                for number in numbers:
                    for ledger in ledgers:
                        ledger.promise(self.name, number, "commit")


def consumer_of(at):
    """Of the first queue one that rejects, of the others one that leaves little."""

    class SpreadConsumer(Consumer):
        queue = QUEUES[at]
        acks, rejects = (0.4, 0.5) if at == 0 else (0.95, 0.0)

        def ledger(self):
            return self.run_state.spread.ledgers[self.queue]

    return SpreadConsumer


class Spread:
    """The ledgers of the queues, and what they say together."""

    workers = ((FanoutPublisher, "fanout"), (TxPublisher, "tx"),
               *((consumer_of(at), f"spread{at}") for at in range(len(QUEUES))))

    def __init__(self):
        self.ledgers = {queue: Ledger() for queue in QUEUES}
        self.torn, self.dead = [], set()

    def promises(self):
        return len(next(iter(self.ledgers.values())).promised)

    def rejects(self):
        return len(self.ledgers[QUEUES[0]].rejected)

    def killed(self, at):
        for ledger in self.ledgers.values():
            ledger.killed(at)

    def shortfalls(self, server):
        """Queues with less in them than was promised and not settled."""
        for queue, ledger in self.ledgers.items():
            there, expected = queue_depth(server, queue), len(ledger.waiting())
            if there < expected:
                yield f"{there} messages recovered in {queue}, {expected} promised and not settled"

    def finish(self, server):
        """Drains all queues and compares."""
        self.drained({queue: drain(server, queue) for queue in QUEUES}, drain(server, DEAD))

    def drained(self, left, dead):
        """Compares what was left: (body, redelivered) of each queue and of the dead letters."""
        first = self.ledgers[QUEUES[0]]
        self.dead = first.drained_dead(body for body, _ in dead)
        there = []
        for queue, ledger in self.ledgers.items():
            there.append(ledger.drained(left[queue], self.dead if ledger is first else set()) | ledger.ever)
        there[0] |= self.dead
        self.torn = sorted(set.union(*there) - set.intersection(*there))

    def problems(self):
        found = {f"{what} in {queue}": examples
                 for queue, ledger in self.ledgers.items() for what, examples in ledger.problems().items()}
        return found | ({"in some queues only": self.torn[:10]} if self.torn else {})

    def line(self):
        counts = {what: sum(len(getattr(ledger, what)) for ledger in self.ledgers.values()) for what in
                  ("lost", "disordered", "duplicated", "resurrected", "damaged", "phantoms")}
        return (f"spread: promised {self.promises()} in each of {len(QUEUES)} queues  rejected {self.rejects()}  "
                f"dead letters {len(self.dead)}  torn={len(self.torn)} "
                + " ".join(f"{what}={count}" for what, count in counts.items()))
