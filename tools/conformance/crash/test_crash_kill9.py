"""Ten rounds of kill -9 under mixed load, and the ledger's own tests: it must see what it is there to see."""

import pathlib
import random
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from kill9 import CONFIG, prove  # noqa: E402
from ledger import Ledger, make_body, parse_body  # noqa: E402
from spread import QUEUES, Spread  # noqa: E402

from harness.server import Server  # noqa: E402


@pytest.mark.ours
@pytest.mark.timeout(240)
def test_ten_rounds_of_kill_9_lose_nothing(tmp_path):
    server = Server(tmp_path / "server", CONFIG)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    try:
        run, ok = prove(server, 10, seed)
        assert ok, f"seed {seed}: {run.failures} {run.problems()}"
        assert run.promises("confirm") > 1000, "too little AMQP load for the test to mean anything"
        assert run.promises("202") > 100, "too little HTTP load for the test to mean anything"
        assert run.spread.promises() > 300, "too little went to several queues for the test to mean anything"
        assert len(run.spread.dead) > 50, "too little was dead-lettered for the test to mean anything"
        server.stop()
    finally:
        if server.alive():
            server.kill()


def filled():
    """A ledger after: a0..a4 promised, a0 and a1 delivered and acked, then a kill."""
    ledger, order = Ledger(), {}
    for number in range(5):
        ledger.sending("a", number)
        ledger.promise("a", number, "confirm")
    for number in range(2):
        message = ledger.delivery(order, make_body("a", number, 20), False)
        ledger.ack(message)
    ledger.killed(time.monotonic())
    return ledger


def bodies(*numbers):
    return [(make_body("a", number, 20), False) for number in numbers]


def test_the_ledger_accepts_what_is_right():
    ledger = filled()
    ledger.drained(bodies(2, 3, 4))
    assert ledger.problems() == {}
    assert len(ledger.waiting()) == 3


def test_the_ledger_allows_a_fresh_ack_to_come_back_but_not_an_old_one():
    ledger = filled()
    ledger.drained(bodies(1, 2, 3, 4))
    assert ledger.problems() == {}
    ledger = filled()
    ledger.killed_at += 10
    ledger.drained(bodies(1, 2, 3, 4))
    assert ledger.problems() == {"resurrected": [("a", 1)]}


def test_the_ledger_sees_an_acked_message_again_in_the_same_life():
    ledger = filled()
    ledger.ack(ledger.delivery({}, make_body("a", 2, 20), False))
    ledger.delivery({}, make_body("a", 2, 20), True)
    assert ledger.problems() == {"resurrected": [("a", 2)]}


def test_an_ack_that_did_not_arrive_is_taken_back():
    ledger = filled()
    ledger.delivery({}, make_body("a", 1, 20), True)
    ledger.killed(time.monotonic())
    ledger.killed_at += 10
    assert ("a", 1) in ledger.waiting()
    ledger.drained(bodies(1, 2, 3, 4))
    assert ledger.problems() == {}


@pytest.mark.parametrize("left, problem", [
    ((2, 4), {"lost": [("a", 3)]}),
    ((2, 4, 3), {"disordered": [("a", 4, 3)]}),
    ((2, 3, 3, 4), {"duplicated": [("a", 3)]}),
])
def test_the_ledger_sees_loss_disorder_and_duplicates_at_the_end(left, problem):
    ledger = filled()
    ledger.drained(bodies(*left))
    assert ledger.problems() == problem


def test_the_ledger_sees_them_in_deliveries_too():
    ledger, order = filled(), {}
    ledger.delivery(order, make_body("a", 3, 20), False)
    ledger.delivery(order, make_body("a", 2, 20), False)
    ledger.delivery(order, make_body("a", 2, 20), True)
    ledger.delivery({}, make_body("a", 3, 20), False)
    ledger.delivery({}, make_body("a", 9, 20), False)
    assert ledger.problems() == {"disordered": [("a", 3, 2)], "duplicated": [("a", 3)], "phantoms": [("a", 9)]}


def test_the_ledger_sees_a_damaged_body():
    body = make_body("a", 3, 200)
    assert parse_body(body) == ("a", 3)
    damaged = body[:100] + bytes([body[100] ^ 1]) + body[101:]
    assert parse_body(damaged) is None
    ledger = filled()
    ledger.delivery({}, damaged, False)
    assert ledger.problems() == {"damaged": [damaged[:60]]}


def test_the_ledger_accepts_a_rejected_message_among_the_dead_or_back_after_a_kill():
    ledger = filled()
    ledger.reject(ledger.delivery({}, make_body("a", 2, 20), False))
    assert len(ledger.waiting()) == 2
    ledger.drained(bodies(3, 4), ledger.drained_dead(body for body, _ in bodies(2)))
    assert ledger.problems() == {}
    ledger = filled()
    ledger.reject(ledger.delivery({}, make_body("a", 2, 20), False))
    ledger.killed(time.monotonic())
    ledger.drained(bodies(2, 3, 4), ledger.drained_dead([]))
    assert ledger.problems() == {}, "the reject was too fresh to be on disk"


@pytest.mark.parametrize("dead, left, problem", [
    ((), (3, 4), {"lost": [("a", 2)]}),
    ((2, 2), (3, 4), {"duplicated": [("a", 2)]}),
    ((2, 3), (4,), {"phantoms": [("a", 3)]}),
    ((2,), (2, 3, 4), {"duplicated": [("a", 2)]}),
])
def test_the_ledger_sees_what_is_wrong_with_the_dead(dead, left, problem):
    ledger = filled()
    ledger.reject(ledger.delivery({}, make_body("a", 2, 20), False))
    ledger.killed(time.monotonic())
    ledger.drained(bodies(*left), ledger.drained_dead(body for body, _ in bodies(*dead)))
    assert ledger.problems() == problem


def test_the_ledger_sees_a_rejected_message_that_comes_back_too_late():
    ledger = filled()
    ledger.reject(ledger.delivery({}, make_body("a", 2, 20), False))
    ledger.killed(time.monotonic() + 10)
    ledger.drained(bodies(2, 3, 4), ledger.drained_dead([]))
    assert ledger.problems() == {"resurrected": [("a", 2)]}


def spread():
    """Three messages promised in all queues: the first is acked in all, the second is rejected in the first queue and acked in
    the second. One more was sent and not answered."""
    state = Spread()
    for queue, ledger in state.ledgers.items():
        for number in range(4):
            ledger.sending("a", number)
        for number in range(3):
            ledger.promise("a", number, "commit")
        order = {}
        ledger.ack(ledger.delivery(order, make_body("a", 0, 20), False))
        if queue != QUEUES[2]:
            settle = ledger.reject if queue == QUEUES[0] else ledger.ack
            settle(ledger.delivery(order, make_body("a", 1, 20), False))
    state.killed(time.monotonic())
    return state


@pytest.mark.parametrize("left, problems", [
    (((2,), (2,), (1, 2)), {}),
    (((2, 3), (2, 3), (1, 2, 3)), {}),
    (((2,), (2, 3), (1, 2)), {"in some queues only": [("a", 3)]}),
    (((2,), (), (1, 2)), {"lost in spread-b": [("a", 2)], "in some queues only": [("a", 2)]}),
    (((2,), (2,), (1, 1, 2)), {"duplicated in spread-c": [("a", 1)]}),
])
def test_what_is_in_some_of_its_queues_only_is_seen(left, problems):
    state = spread()
    state.drained({queue: bodies(*numbers) for queue, numbers in zip(QUEUES, left)}, bodies(1))
    assert state.problems() == problems
