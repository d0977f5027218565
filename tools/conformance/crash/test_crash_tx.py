"""Kill -9 in the middle of transactions: each is there wholly or not at all.

A transaction takes an order from one queue, publishes it to three others and acknowledges it, or rejects it: then it is
dead-lettered. After any number of kills an order is in the first queue and in none of the others, or in all three, among the
dead letters if it was rejected, and not in the first; and those whose commit-ok came are in the three.
"""

import random
import threading
import time

import pika
import pytest
from pika.exceptions import AMQPError

from harness.broker import PERSISTENT, Broker, bodies
from harness.server import Server

ORDERS, ROUNDS, WORKERS = 1500, 4, 2
TARGETS = ("tx-a", "tx-b", "tx-c")


class Worker(threading.Thread):
    """Works off orders until there are none, or the server is gone."""

    def __init__(self, server, committed):
        super().__init__(daemon=True)
        self.server, self.committed = server, committed

    def run(self):
        try:
            self.work(Broker("127.0.0.1", self.server.ports["amqp"]).channel())
        except (AMQPError, OSError):
            return  # killed under us: what the test is about

    def work(self, channel):
        channel.tx_select()
        while True:
            method, _, order = channel.basic_get("tx-orders")
            if method is None:
                return
            for queue in TARGETS:
                channel.basic_publish("", queue, order + b" " * random.choice((0, 10, 6000)), PERSISTENT)
            if is_rejected(order):
                channel.basic_reject(method.delivery_tag, requeue=False)
            else:
                channel.basic_ack(method.delivery_tag)
            channel.tx_commit()
            self.committed.append(order)


def is_rejected(order):
    return int(order) % 3 == 0


def fill(channel):
    for queue in ("tx-dead", *TARGETS):
        channel.queue_declare(queue, durable=True)
    channel.queue_declare("tx-orders", durable=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "tx-dead"})
    channel.tx_select()
    for number in range(ORDERS):
        channel.basic_publish("", "tx-orders", b"%d" % number, PERSISTENT)
    channel.tx_commit()


@pytest.mark.ours
@pytest.mark.timeout(240)
def test_a_transaction_is_whole_after_kill_9(tmp_path):
    server = Server(tmp_path / "server").start()
    seed = random.SystemRandom().randrange(2**32)
    rng, committed = random.Random(seed), []
    print(f"seed {seed}")
    try:
        fill(Broker("127.0.0.1", server.ports["amqp"]).channel())
        for _ in range(ROUNDS):
            workers = [Worker(server, committed) for _ in range(WORKERS)]
            for worker in workers:
                worker.start()
            time.sleep(rng.uniform(0.2, 1.0))
            server.kill()
            for worker in workers:
                worker.join(timeout=20)
                assert not worker.is_alive(), f"seed {seed}: a client hangs"
            server.start()
        check(server, committed)
        server.stop()
    finally:
        if server.alive():
            server.kill()


def check(server, committed):
    channel = pika.BlockingConnection(Broker("127.0.0.1", server.ports["amqp"]).parameters()).channel()
    left = [int(body) for body in bodies(channel, "tx-orders")]
    there = [[int(body) for body in bodies(channel, queue)] for queue in TARGETS]
    dead = [int(body) for body in bodies(channel, "tx-dead")]
    channel.connection.close()
    print(f"{len(committed)} commits told, {len(there[0])} done, {len(dead)} of them rejected, {len(left)} left")
    for done in there:
        assert len(done) == len(set(done)), "an order was done twice"
        assert sorted(done) == sorted(there[0]), "a transaction is there in part"
    assert sorted(left + there[0]) == list(range(ORDERS)), "publishes and acks came apart"
    assert sorted(dead) == sorted(filter(is_rejected, there[0])), "publishes and dead letters came apart"
    lost = set(map(int, committed)) - set(there[0])
    assert not lost, f"commit-ok was told and the transaction is gone: {sorted(lost)[:10]}"
    assert committed, "nothing was committed: the load did not run"
