"""TTL of messages and queues, dead lettering with x-death, priorities (reference 1.1.4 and 1.1.5)."""

import re
import time

import pika
import pytest

from harness.broker import Collector, bodies, closes_channel, depth, get, publish, wait_depth


@pytest.fixture
def dead(channel, name):
    """A dead-letter queue behind a fanout exchange, both named after the test; returns (exchange, queue)."""
    exchange, queue = name + ".dlx", name + ".dead"
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, exchange)
    return exchange, queue


def expiring(milliseconds):
    return pika.BasicProperties(expiration=str(milliseconds))


def near_now(timestamp):
    seconds = timestamp.timestamp() if hasattr(timestamp, "timestamp") else timestamp
    # pika gives naive UTC datetimes.
    import datetime
    if isinstance(timestamp, datetime.datetime) and timestamp.tzinfo is None:
        seconds = timestamp.replace(tzinfo=datetime.timezone.utc).timestamp()
    return abs(seconds - time.time()) < 30


# --- TTL -------------------------------------------------------------------------------------------------------------

def test_messages_expire_after_the_queue_s_ttl(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-message-ttl": 200})
    publish(channel, name, b"1", b"2")
    wait_depth(channel, name, 2)
    wait_depth(channel, name, 0, timeout_s=3)
    assert bodies(channel, name) == []


def test_a_message_that_has_not_expired_is_delivered(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-message-ttl": 60000})
    publish(channel, name, b"1")
    assert get(channel, name)[2] == b"1"


def test_the_message_s_own_expiration(channel, name):
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"short", properties=expiring(150))
    publish(channel, name, b"long", properties=expiring(60000))
    wait_depth(channel, name, 2)
    wait_depth(channel, name, 1, timeout_s=3)
    method, properties, body = get(channel, name)
    assert (body, properties.expiration) == (b"long", "60000")


def test_the_smaller_of_both_counts(channel, name, dead):
    channel.queue_declare(name, exclusive=True,
                          arguments={"x-message-ttl": 60000, "x-dead-letter-exchange": dead[0]})
    publish(channel, name, b"m", properties=expiring(100))
    assert get(channel, dead[1])[2] == b"m"


def test_only_the_head_expires(channel, name, dead):
    """A message behind one that lives longer waits for it, as in a classic queue."""
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": dead[0]})
    publish(channel, name, b"long", properties=expiring(60000))
    publish(channel, name, b"short", properties=expiring(50))
    wait_depth(channel, name, 2)
    time.sleep(0.4)
    assert (depth(channel, name), depth(channel, dead[1])) == (2, 0)
    assert get(channel, name)[2] == b"long"
    assert get(channel, dead[1])[2] == b"short"


def test_ttl_zero_means_at_once_or_never(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-message-ttl": 0})
    channel.confirm_delivery()
    publish(channel, name, b"nobody there")
    assert bodies(channel, name) == []
    consumer = Collector(channel, name, auto_ack=True)
    publish(channel, name, b"somebody there")
    assert consumer.wait(1).bodies == [b"somebody there"]


def test_expiration_zero_is_delivered_to_a_waiting_consumer(channel, name):
    channel.queue_declare(name, exclusive=True)
    consumer = Collector(channel, name, auto_ack=True)
    publish(channel, name, b"now", properties=expiring(0))
    assert consumer.wait(1).bodies == [b"now"]


def test_unacked_messages_do_not_expire_until_requeued(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-message-ttl": 200})
    publish(channel, name, b"m")
    method, _, _ = get(channel, name, auto_ack=False)
    time.sleep(0.4)
    channel.basic_nack(method.delivery_tag, requeue=True)
    wait_depth(channel, name, 0)
    assert bodies(channel, name) == []


@pytest.mark.parametrize("expiration", ["abc", "-1", "1.5", "10s", ""])
def test_a_bad_expiration(channel, name, expiration):
    channel.queue_declare(name, exclusive=True)
    closes_channel(channel, 406, re.compile(f"PRECONDITION_FAILED - invalid expiration '{expiration}': .+"),
                   lambda: publish(channel, name, b"m", properties=pika.BasicProperties(expiration=expiration)))


# --- dead lettering --------------------------------------------------------------------------------------------------

def test_rejected_messages_with_their_whole_history(channel, name, dead):
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": dead[0]})
    channel.queue_bind(name, "amq.topic", name + ".key")
    channel.basic_publish("amq.topic", name + ".key", b"bad", pika.BasicProperties(
        delivery_mode=2, content_type="text/x", headers={"mine": "kept"}, message_id="m-1"))
    method, _, _ = get(channel, name, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    method, properties, body = get(channel, dead[1])
    assert (method.exchange, method.routing_key, method.redelivered, body) == (
        dead[0], name + ".key", False, b"bad")
    assert (properties.content_type, properties.message_id, properties.delivery_mode) == ("text/x", "m-1", 2)
    headers = properties.headers
    death = headers["x-death"][0]
    assert near_now(death.pop("time"))
    assert death == {"count": 1, "reason": "rejected", "queue": name, "exchange": "amq.topic",
                     "routing-keys": [name + ".key"]}
    assert len(headers["x-death"]) == 1
    assert headers["mine"] == "kept"
    assert (headers["x-first-death-reason"], headers["x-first-death-queue"], headers["x-first-death-exchange"]) == (
        "rejected", name, "amq.topic")


def test_nack_dead_letters_too(channel, name, dead):
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": dead[0]})
    publish(channel, name, b"1", b"2", b"3")
    tags = [get(channel, name, auto_ack=False)[0].delivery_tag for _ in range(3)]
    channel.basic_nack(tags[-1], multiple=True, requeue=False)
    wait_depth(channel, dead[1], 3)
    assert bodies(channel, dead[1]) == [b"1", b"2", b"3"]


def test_expired_messages_lose_their_expiration_and_say_what_it_was(channel, name, dead):
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": dead[0]})
    publish(channel, name, b"m", properties=expiring(50))
    _, properties, _ = get(channel, dead[1])
    assert properties.expiration is None
    death = properties.headers["x-death"][0]
    assert near_now(death.pop("time"))
    assert death == {"count": 1, "reason": "expired", "queue": name, "exchange": "", "routing-keys": [name],
                     "original-expiration": "50"}


def test_expired_by_the_queue_s_ttl_has_no_original_expiration(channel, name, dead):
    channel.queue_declare(name, exclusive=True,
                          arguments={"x-message-ttl": 50, "x-dead-letter-exchange": dead[0]})
    publish(channel, name, b"m")
    _, properties, _ = get(channel, dead[1])
    death = properties.headers["x-death"][0]
    assert death["reason"] == "expired"
    assert "original-expiration" not in death


def test_expired_messages_keep_their_order(channel, name, dead):
    channel.queue_declare(name, exclusive=True,
                          arguments={"x-message-ttl": 100, "x-dead-letter-exchange": dead[0]})
    sent = [b"%d" % n for n in range(200)]
    publish(channel, name, *sent)
    wait_depth(channel, dead[1], 200)
    assert bodies(channel, dead[1]) == sent


def test_a_dead_letter_routing_key_replaces_the_old_one(channel, name):
    target = name + ".target"
    channel.queue_declare(target, exclusive=True)
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": "",
                                                           "x-dead-letter-routing-key": target})
    publish(channel, name, b"m")
    channel.basic_reject(get(channel, name, auto_ack=False)[0].delivery_tag, requeue=False)
    method, properties, body = get(channel, target)
    assert (method.exchange, method.routing_key, body) == ("", target, b"m")
    assert properties.headers["x-death"][0]["routing-keys"] == [name]


def test_without_a_dead_letter_exchange_a_rejected_message_is_gone(channel, name):
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"m")
    channel.basic_reject(get(channel, name, auto_ack=False)[0].delivery_tag, requeue=False)
    assert bodies(channel, name) == []


def test_a_missing_dead_letter_exchange_drops_silently(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": name + ".none"})
    publish(channel, name, b"m")
    channel.basic_reject(get(channel, name, auto_ack=False)[0].delivery_tag, requeue=False)
    assert bodies(channel, name) == []
    assert channel.is_open


def test_dying_twice_in_the_same_queue_counts(channel, name):
    """The retry loop everybody builds: reject → waiting queue with TTL → back. Two entries, newest first, counted."""
    wait = name + ".wait"
    channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": "",
                                                           "x-dead-letter-routing-key": wait})
    channel.queue_declare(wait, exclusive=True, arguments={"x-dead-letter-exchange": "", "x-message-ttl": 30,
                                                           "x-dead-letter-routing-key": name})
    publish(channel, name, b"again and again")
    for attempt in range(4):
        method, properties, body = get(channel, name, auto_ack=False)
        assert body == b"again and again"
        deaths = (properties.headers or {}).get("x-death", [])
        if attempt:
            assert [(d["queue"], d["reason"], d["count"]) for d in deaths] == [
                (wait, "expired", attempt), (name, "rejected", attempt)]
            assert properties.headers["x-first-death-queue"] == name
            assert properties.headers["x-first-death-reason"] == "rejected"
        else:
            assert deaths == []
        channel.basic_reject(method.delivery_tag, requeue=False)


def test_a_cycle_without_a_rejection_is_cut(channel, name):
    """A queue whose expired messages come back to itself would spin for ever; the message is dropped instead."""
    channel.queue_declare(name, exclusive=True, arguments={"x-message-ttl": 50, "x-dead-letter-exchange": "",
                                                           "x-dead-letter-routing-key": name})
    publish(channel, name, b"m")
    wait_depth(channel, name, 1)
    wait_depth(channel, name, 0)
    time.sleep(0.3)
    assert depth(channel, name) == 0


def test_purge_and_delete_do_not_dead_letter(channel, name, dead):
    channel.queue_declare(name, arguments={"x-dead-letter-exchange": dead[0]})
    publish(channel, name, b"m")
    wait_depth(channel, name, 1)
    channel.queue_purge(name)
    publish(channel, name, b"m")
    wait_depth(channel, name, 1)
    channel.queue_delete(name)
    assert depth(channel, dead[1]) == 0


# --- priority --------------------------------------------------------------------------------------------------------

def priority(level):
    return pika.BasicProperties(priority=level)


def test_the_highest_priority_comes_first_and_order_holds_inside_one(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-priority": 5})
    channel.confirm_delivery()
    for number, level in enumerate([1, 5, 0, 3, 5, 1, None, 3]):
        publish(channel, name, b"%d:%s" % (number, str(level).encode()), properties=priority(level))
    assert bodies(channel, name) == [b"1:5", b"4:5", b"3:3", b"7:3", b"0:1", b"5:1", b"2:0", b"6:None"]


def test_more_than_the_maximum_counts_as_the_maximum(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-priority": 2})
    channel.confirm_delivery()
    for body, level in ((b"2 first", 2), (b"200", 200), (b"2 last", 2)):
        publish(channel, name, body, properties=priority(level))
    taken = [(m[2], m[1].priority) for m in (get(channel, name) for _ in range(3))]
    assert taken == [(b"2 first", 2), (b"200", 200), (b"2 last", 2)]


def test_without_x_max_priority_it_is_only_a_property(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    publish(channel, name, b"low", properties=priority(0))
    publish(channel, name, b"high", properties=priority(9))
    assert bodies(channel, name) == [b"low", b"high"]


def test_a_requeued_message_keeps_its_place_among_its_priority(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-priority": 3})
    channel.confirm_delivery()
    for body, level in ((b"a1", 1), (b"b1", 1), (b"c3", 3)):
        publish(channel, name, body, properties=priority(level))
    channel.basic_get(name, auto_ack=True)
    first = channel.basic_get(name)
    assert first[2] == b"a1"
    publish(channel, name, b"d3", properties=priority(3))
    channel.basic_reject(first[0].delivery_tag, requeue=True)
    wait_depth(channel, name, 3)
    assert bodies(channel, name) == [b"d3", b"a1", b"b1"]
