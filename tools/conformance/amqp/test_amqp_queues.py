"""Queues: declare and its flags, equivalence, purge, delete, exclusivity, auto-delete, x-expires."""

import re
import time

import pytest

from harness.broker import Collector, bodies, closes_channel, depth, publish, wait_depth
from harness.wait import until


def missing(queue):
    return 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"


def gone(connection, queue):
    """True if a passive declare says 404; uses a channel of its own."""
    import pika.exceptions

    try:
        connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404
        return True
    return False


def test_declare_answers_name_and_counts(channel, name):
    answer = channel.queue_declare(name, exclusive=True).method
    assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 0, 0)
    publish(channel, name, b"1", b"2", b"3")
    wait_depth(channel, name, 3)
    Collector(channel, name)
    until(lambda: channel.queue_declare(name, exclusive=True).method.consumer_count == 1, "one consumer counted")


def test_the_count_is_of_ready_messages_only(channel, name):
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"1", b"2")
    wait_depth(channel, name, 2)
    channel.basic_get(name)
    assert depth(channel, name) == 1


def test_a_server_named_queue(channel):
    first = channel.queue_declare("", exclusive=True).method.queue
    second = channel.queue_declare("", exclusive=True).method.queue
    assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{16,}", first), first
    assert first != second


def test_an_empty_name_means_the_last_declared_queue(channel, name):
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"m")
    channel.queue_bind("", "amq.direct", routing_key=name + ".key")
    assert channel.basic_get("", auto_ack=True)[2] == b"m"


def test_without_one_declared_it_is_an_error(channel):
    closes_channel(channel, 404, "NOT_FOUND - no previously declared queue", lambda: channel.basic_get(""))


def test_the_last_declared_queue_belongs_to_the_channel(connection, name):
    connection.channel().queue_declare(name, exclusive=True)
    other = connection.channel()
    closes_channel(other, 404, "NOT_FOUND - no previously declared queue", lambda: other.basic_get(""))


def test_passive_finds_or_does_not(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.queue_declare(name, passive=True, durable=True)
    closes_channel(channel, *missing(name + "x"), lambda: channel.queue_declare(name + "x", passive=True))


@pytest.mark.parametrize("action", [
    lambda ch, q: ch.basic_get(q),
    lambda ch, q: ch.basic_consume(q, print),
    lambda ch, q: ch.queue_purge(q),
    lambda ch, q: ch.queue_bind(q, "amq.direct", "k"),
], ids=["get", "consume", "purge", "bind"])
def test_what_does_not_exist_cannot_be_used(channel, name, action):
    closes_channel(channel, *missing(name), lambda: action(channel, name))


def test_deleting_a_missing_queue_is_fine(channel, name):
    assert channel.queue_delete(name).method.message_count == 0


def test_declaring_again_the_same_is_fine(channel, name):
    arguments = {"x-message-ttl": 60000, "x-max-priority": 3, "unknown-argument": "kept"}
    channel.queue_declare(name, auto_delete=False, arguments=arguments)
    publish(channel, name, b"stays")
    wait_depth(channel, name, 1)
    assert channel.queue_declare(name, arguments=arguments).method.message_count == 1
    channel.queue_delete(name)


@pytest.mark.parametrize("different, text", [
    ({"durable": True}, "'durable' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
    ({"auto_delete": True}, "'auto_delete' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
    ({"arguments": {"x-message-ttl": 10}},
     "'x-message-ttl' for queue '{q}' in vhost '/': received the value '10' of type 'signedint' but current is none"),
    ({"arguments": {"x-expires": 100000}},
     "'x-expires' for queue '{q}' in vhost '/': received the value '100000' of type 'signedint' but current is none"),
    ({"arguments": {"x-max-priority": 5}},
     "'x-max-priority' for queue '{q}' in vhost '/': received the value '5' of type 'signedint' but current is none"),
    ({"arguments": {"x-dead-letter-exchange": "dlx"}},
     "'x-dead-letter-exchange' for queue '{q}' in vhost '/': received the value 'dlx' of type 'longstr' but current "
     "is none"),
])
def test_declaring_again_differently(channel, name, different, text):
    channel.queue_declare(name)
    closes_channel(channel, 406, "PRECONDITION_FAILED - inequivalent arg " + text.format(q=name),
                   lambda: channel.queue_declare(name, **different))
    channel.connection.channel().queue_delete(name)


def test_an_argument_that_is_missing_now(channel, name):
    channel.queue_declare(name, arguments={"x-message-ttl": 100})
    closes_channel(channel, 406, f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{name}' in vhost "
                                 "'/': received none but current is the value '100' of type 'signedint'",
                   lambda: channel.queue_declare(name))
    channel.connection.channel().queue_delete(name)


def test_another_value_of_an_argument(channel, name):
    channel.queue_declare(name, arguments={"x-message-ttl": 100})
    closes_channel(channel, 406, f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{name}' in vhost "
                                 "'/': received '200' but current is '100'",
                   lambda: channel.queue_declare(name, arguments={"x-message-ttl": 200}))
    channel.connection.channel().queue_delete(name)


@pytest.mark.parametrize("argument, value", [
    ("x-message-ttl", -1), ("x-message-ttl", "soon"), ("x-expires", 0), ("x-expires", -5), ("x-expires", "x"),
    ("x-max-priority", -1), ("x-max-priority", 256), ("x-max-priority", "high"), ("x-dead-letter-exchange", 5),
    ("x-dead-letter-routing-key", 5),
])
def test_bad_argument_values(channel, name, argument, value):
    closes_channel(channel, 406,
                   re.compile(rf"PRECONDITION_FAILED - invalid (arg|type .+ for arg) '{argument}' (for|in) queue '{name}' "
                              r"in vhost '/'(: .+)?"),
                   lambda: channel.queue_declare(name, arguments={argument: value, "x-dead-letter-exchange": "x"}
                                                 if argument == "x-dead-letter-routing-key" else {argument: value}))
    assert gone(channel.connection, name)


def test_a_dead_letter_key_needs_a_dead_letter_exchange(channel, name):
    closes_channel(channel, 406,
                   re.compile(rf"PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue '{name}' in "
                              "vhost '/': .+"),
                   lambda: channel.queue_declare(name, arguments={"x-dead-letter-routing-key": "k"}))


def test_reserved_names(channel):
    closes_channel(channel, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
                   lambda: channel.queue_declare("amq.mine"))


def test_a_reserved_name_may_be_asked_for_passively(channel):
    closes_channel(channel, *missing("amq.mine"), lambda: channel.queue_declare("amq.mine", passive=True))


def test_a_name_can_be_255_bytes(channel):
    queue = "q" * 255
    assert channel.queue_declare(queue, exclusive=True).method.queue == queue


# --- exclusive -------------------------------------------------------------------------------------------------------

def locked(queue):
    return 405, (f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be "
                 "originally declared on another connection or the exclusive property value does not match that of the "
                 "original declaration.")


@pytest.mark.parametrize("action", [
    lambda ch, q: ch.queue_declare(q, exclusive=True),
    lambda ch, q: ch.queue_declare(q, passive=True),
    lambda ch, q: ch.queue_declare(q),
    lambda ch, q: ch.basic_get(q),
    lambda ch, q: ch.basic_consume(q, print),
    lambda ch, q: ch.queue_purge(q),
    lambda ch, q: ch.queue_delete(q),
    lambda ch, q: ch.queue_bind(q, "amq.direct", "k"),
], ids=["declare exclusive", "declare passive", "declare", "get", "consume", "purge", "delete", "bind"])
def test_an_exclusive_queue_is_locked_for_others(broker, channel, name, action):
    channel.queue_declare(name, exclusive=True)
    other = broker.channel()
    closes_channel(other, *locked(name), lambda: action(other, name))


def test_others_may_publish_to_it(broker, channel, name):
    channel.queue_declare(name, exclusive=True)
    publish(broker.channel(), name, b"reply")
    wait_depth(channel, name, 1)


def test_other_channels_of_the_connection_may_use_it(connection, name):
    connection.channel().queue_declare(name, exclusive=True)
    assert connection.channel().queue_declare(name, exclusive=True).method.queue == name


def test_a_queue_does_not_become_exclusive_by_declaring_it_again(channel, name):
    channel.queue_declare(name)
    closes_channel(channel, *locked(name), lambda: channel.queue_declare(name, exclusive=True))
    channel.connection.channel().queue_delete(name)


def test_it_goes_with_its_connection(broker, connection, name):
    owner = broker.connect()
    owner.channel().queue_declare(name, exclusive=True)
    owner.close()
    until(lambda: gone(connection, name), "the exclusive queue is deleted with its connection")


# --- auto-delete and x-expires ---------------------------------------------------------------------------------------

def test_auto_delete_goes_with_the_last_consumer(connection, name):
    one, two = connection.channel(), connection.channel()
    one.queue_declare(name, auto_delete=True)
    first, second = Collector(one, name), Collector(two, name)
    one.basic_cancel(first.tag)
    assert not gone(connection, name)
    two.basic_cancel(second.tag)
    until(lambda: gone(connection, name), "the auto-delete queue is gone")


def test_auto_delete_goes_when_the_consumer_s_channel_closes(connection, name):
    one = connection.channel()
    one.queue_declare(name, auto_delete=True)
    Collector(one, name)
    one.close()
    until(lambda: gone(connection, name), "the auto-delete queue is gone")


def test_auto_delete_stays_while_it_never_had_a_consumer(broker, connection, name):
    owner = broker.connect()
    owner.channel().queue_declare(name, auto_delete=True)
    owner.close()
    assert not gone(connection, name)
    connection.channel().queue_delete(name)


def test_an_unused_queue_expires(connection, channel, name):
    channel.queue_declare(name, arguments={"x-expires": 300})
    began = time.monotonic()
    time.sleep(0.15)
    assert not gone(connection, name), "a passive declare also counts as use"
    began = time.monotonic()
    while not gone_after(channel.connection, name, 0.5) and time.monotonic() - began < 5:
        pass
    assert gone(connection, name)


def gone_after(connection, queue, wait_s):
    """Looks only every `wait_s`, for looking is use and puts the expiry off."""
    time.sleep(wait_s)
    return gone(connection, queue)


def test_a_queue_with_a_consumer_does_not_expire(connection, channel, name):
    channel.queue_declare(name, arguments={"x-expires": 200})
    consumer = Collector(channel, name)
    consumer.no_more(for_s=0.8)
    assert not gone(connection, name)
    channel.basic_cancel(consumer.tag)
    until(lambda: gone_after(connection, name, 0.5), "the queue expires after its consumer went")


# --- purge and delete ------------------------------------------------------------------------------------------------

def test_purge_counts_and_leaves_unacked_alone(channel, name):
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"1", b"2", b"3")
    wait_depth(channel, name, 3)
    unacked = channel.basic_get(name)[0]
    assert channel.queue_purge(name).method.message_count == 2
    channel.basic_reject(unacked.delivery_tag, requeue=True)
    wait_depth(channel, name, 1)
    assert bodies(channel, name) == [b"1"]


def test_delete_counts_ready_messages(channel, name):
    channel.queue_declare(name)
    publish(channel, name, b"1", b"2", b"3")
    wait_depth(channel, name, 3)
    assert channel.queue_delete(name).method.message_count == 3


def test_delete_if_empty(channel, name):
    channel.queue_declare(name)
    publish(channel, name, b"1")
    wait_depth(channel, name, 1)
    closes_channel(channel, 406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty",
                   lambda: channel.queue_delete(name, if_empty=True))
    again = channel.connection.channel()
    again.queue_purge(name)
    again.queue_delete(name, if_empty=True)
    assert gone(channel.connection, name)


def test_delete_if_unused(connection, channel, name):
    channel.queue_declare(name)
    consumer = Collector(channel, name)
    other = connection.channel()
    closes_channel(other, 406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use",
                   lambda: other.queue_delete(name, if_unused=True))
    channel.basic_cancel(consumer.tag)
    channel.queue_delete(name, if_unused=True)
    assert gone(connection, name)


def test_a_deleted_queue_is_unbound(channel, name):
    channel.queue_declare(name)
    channel.queue_bind(name, "amq.direct", name)
    channel.queue_delete(name)
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("amq.direct", name, b"m")
    assert bodies(channel, name) == []


@pytest.mark.parametrize("key, value", [("text", "x"), ("number", 5), ("flag", True), ("nested", {"a": [1, "b"]})])
def test_unknown_arguments_are_kept_and_not_compared(channel, name, key, value):
    """As RabbitMQ does: only arguments it knows are part of equivalence."""
    channel.queue_declare(name, arguments={key: value})
    channel.queue_declare(name)
    channel.queue_delete(name)
