"""Consuming: deliver, get, ack, nack, reject, requeue to the original position, recover, prefetch, cancel."""

import re
import time

import pika
import pytest
from pika import spec

from harness.amqp_raw import RawAmqp, frame, header_frame, method_frame
from harness.broker import (Collector, bodies, closes_channel, closes_connection, get, publish, wait_depth)
from harness.wait import until


@pytest.fixture
def queue(channel, name):
    return channel.queue_declare(name, exclusive=True).method.queue


def numbered(count, start=0):
    return [b"%d" % n for n in range(start, start + count)]


# --- get -------------------------------------------------------------------------------------------------------------

def test_get_tells_how_many_are_left(channel, queue):
    publish(channel, queue, b"1", b"2", b"3")
    wait_depth(channel, queue, 3)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (method.message_count, method.redelivered, method.exchange, method.routing_key, body) == (
        2, False, "", queue, b"1")


def test_get_from_an_empty_queue(channel, queue):
    assert channel.basic_get(queue) == (None, None, None)


def test_a_message_got_and_not_acked_comes_back_when_the_channel_closes(connection, channel, queue):
    other = connection.channel()
    publish(channel, queue, b"1", b"2")
    wait_depth(channel, queue, 2)
    assert other.basic_get(queue)[2] == b"1"
    other.close()
    wait_depth(channel, queue, 2)
    first, second = channel.basic_get(queue, auto_ack=True), channel.basic_get(queue, auto_ack=True)
    assert [(m[0].redelivered, m[2]) for m in (first, second)] == [(True, b"1"), (False, b"2")]


# --- deliver and settle ----------------------------------------------------------------------------------------------

def test_delivery_tags_count_from_one_per_channel(connection, channel, queue):
    publish(channel, queue, *numbered(3))
    assert Collector(channel, queue).wait(3).tags == [1, 2, 3]
    other = connection.channel()
    mine = other.queue_declare("", exclusive=True).method.queue
    publish(other, mine, b"x")
    assert Collector(other, mine).wait(1).tags == [1]


def test_acked_messages_are_gone_and_others_come_back(broker, name):
    """Ack 2 of 3 and disconnect: the third comes back, redelivered."""
    channel = broker.channel()
    channel.queue_declare(name)
    worker = broker.connect()
    theirs = worker.channel()
    publish(channel, name, b"1", b"2", b"3")
    consumer = Collector(theirs, name).wait(3)
    theirs.basic_ack(consumer.tags[0])
    theirs.basic_ack(consumer.tags[2])
    worker.close()
    wait_depth(channel, name, 1)
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (method.redelivered, body) == (True, b"2")
    channel.queue_delete(name)


def test_ack_multiple(connection, channel, queue):
    publish(channel, queue, *numbered(5))
    worker = connection.channel()
    consumer = Collector(worker, queue).wait(5)
    worker.basic_ack(consumer.tags[2], multiple=True)
    worker.close()
    wait_depth(channel, queue, 2)
    assert bodies(channel, queue) == [b"3", b"4"]


def test_ack_multiple_zero_means_all(connection, channel, queue):
    publish(channel, queue, *numbered(5))
    worker = connection.channel()
    Collector(worker, queue).wait(5)
    worker.basic_ack(0, multiple=True)
    worker.close()
    connection.channel().close()
    assert bodies(channel, queue) == []


@pytest.mark.parametrize("settle", ["reject", "nack"])
def test_requeue_puts_it_back_where_it_was(channel, queue, settle):
    publish(channel, queue, *numbered(4))
    wait_depth(channel, queue, 4)
    taken = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    getattr(channel, f"basic_{settle}")(taken[1], requeue=True)
    wait_depth(channel, queue, 2)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"1", True)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"3", False)


def test_nack_multiple_requeues_all_in_their_order(channel, queue):
    publish(channel, queue, *numbered(6))
    wait_depth(channel, queue, 6)
    taken = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_nack(taken[-1], multiple=True, requeue=True)
    wait_depth(channel, queue, 6)
    assert bodies(channel, queue) == numbered(6)


def test_requeued_in_any_order_they_stand_in_the_original_order(channel, queue):
    publish(channel, queue, *numbered(5))
    wait_depth(channel, queue, 5)
    taken = [channel.basic_get(queue)[0].delivery_tag for _ in range(5)]
    for tag in (taken[3], taken[0], taken[4], taken[1], taken[2]):
        channel.basic_reject(tag, requeue=True)
    wait_depth(channel, queue, 5)
    assert bodies(channel, queue) == numbered(5)


def test_reject_without_requeue_drops(channel, queue):
    publish(channel, queue, b"1", b"2")
    wait_depth(channel, queue, 2)
    channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)
    assert bodies(channel, queue) == [b"2"]


def test_a_rejected_message_is_redelivered_to_the_only_consumer(channel, queue):
    publish(channel, queue, b"m")
    consumer = Collector(channel, queue).wait(1)
    channel.basic_reject(consumer.tags[0], requeue=True)
    consumer.wait(2)
    assert [(m.redelivered, m.delivery_tag) for m, _, _ in consumer.got] == [(False, 1), (True, 2)]


@pytest.mark.parametrize("settle", [
    lambda ch, tag: ch.basic_ack(tag), lambda ch, tag: ch.basic_nack(tag), lambda ch, tag: ch.basic_reject(tag),
    lambda ch, tag: ch.basic_ack(tag, multiple=True),
], ids=["ack", "nack", "reject", "ack multiple"])
def test_an_unknown_delivery_tag(channel, settle):
    closes_channel(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 7", lambda: settle(channel, 7))


def test_acking_twice(channel, queue):
    publish(channel, queue, b"m")
    tag = get(channel, queue, auto_ack=False)[0].delivery_tag
    channel.basic_ack(tag)
    closes_channel(channel, 406, f"PRECONDITION_FAILED - unknown delivery tag {tag}", lambda: channel.basic_ack(tag))


def test_acking_on_another_channel(connection, channel, queue):
    publish(channel, queue, b"m")
    tag = get(channel, queue, auto_ack=False)[0].delivery_tag
    other = connection.channel()
    closes_channel(other, 406, f"PRECONDITION_FAILED - unknown delivery tag {tag}", lambda: other.basic_ack(tag))


def test_acking_what_was_delivered_with_auto_ack(channel, queue):
    publish(channel, queue, b"m")
    consumer = Collector(channel, queue, auto_ack=True).wait(1)
    closes_channel(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1",
                   lambda: channel.basic_ack(consumer.tags[0]))


# --- recover ---------------------------------------------------------------------------------------------------------

def test_recover_requeues_everything_unacked(channel, queue):
    publish(channel, queue, *numbered(3))
    wait_depth(channel, queue, 3)
    for _ in range(3):
        channel.basic_get(queue)
    channel.basic_recover(requeue=True)
    wait_depth(channel, queue, 3)
    first = channel.basic_get(queue, auto_ack=True)
    assert (first[0].redelivered, first[2]) == (True, b"0")
    assert bodies(channel, queue) == [b"1", b"2"]


def test_recover_without_requeue_is_not_implemented(connection, channel):
    closes_connection(connection, 540, "NOT_IMPLEMENTED - requeue=false", lambda: channel.basic_recover(requeue=False))


# --- prefetch --------------------------------------------------------------------------------------------------------

def test_prefetch_limits_what_is_unacked(channel, queue):
    channel.basic_qos(prefetch_count=3)
    publish(channel, queue, *numbered(10))
    consumer = Collector(channel, queue).wait(3).no_more()
    channel.basic_ack(consumer.tags[0])
    consumer.wait(4).no_more()
    channel.basic_ack(consumer.tags[3], multiple=True)
    consumer.wait(7).no_more()
    assert consumer.bodies == numbered(7)


def test_prefetch_counts_for_each_new_consumer(channel, queue):
    channel.basic_qos(prefetch_count=2)
    first = Collector(channel, queue)
    channel.basic_qos(prefetch_count=4)
    second = Collector(channel, queue)
    publish(channel, queue, *numbered(20))
    first.wait(2)
    second.wait(4)
    first.no_more()
    assert (len(first.got), len(second.got)) == (2, 4)


def test_global_prefetch_is_shared_by_the_channel(channel, queue):
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Collector(channel, queue), Collector(channel, queue)
    publish(channel, queue, *numbered(10))
    deadline = time.monotonic() + 3
    while len(first.got) + len(second.got) < 3 and time.monotonic() < deadline:
        channel.connection.process_data_events(time_limit=0.02)
    first.no_more()
    assert len(first.got) + len(second.got) == 3
    channel.basic_ack(0, multiple=True)
    deadline = time.monotonic() + 3
    while len(first.got) + len(second.got) < 6 and time.monotonic() < deadline:
        channel.connection.process_data_events(time_limit=0.02)
    first.no_more()
    assert len(first.got) + len(second.got) == 6


def test_both_limits_hold_together(channel, queue):
    channel.basic_qos(prefetch_count=4)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    publish(channel, queue, *numbered(10))
    Collector(channel, queue).wait(2).no_more()


def test_prefetch_zero_is_unlimited_and_auto_ack_is_not_limited(channel, queue):
    channel.basic_qos(prefetch_count=1)
    publish(channel, queue, *numbered(50))
    Collector(channel, queue, auto_ack=True).wait(50)
    channel.basic_qos(prefetch_count=0)
    publish(channel, queue, *numbered(50))
    other = channel.connection.channel()
    mine = other.queue_declare("", exclusive=True).method.queue
    publish(other, mine, *numbered(50))
    Collector(other, mine).wait(50)


def test_get_is_not_limited_by_prefetch(channel, queue):
    channel.basic_qos(prefetch_count=1)
    publish(channel, queue, *numbered(3))
    wait_depth(channel, queue, 3)
    assert [channel.basic_get(queue)[2] for _ in range(3)] == numbered(3)


def test_prefetch_size_is_not_implemented(connection, channel):
    closes_connection(connection, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)",
                      lambda: channel.basic_qos(prefetch_size=10))


# --- several consumers -----------------------------------------------------------------------------------------------

def test_round_robin_between_consumers(channel, queue):
    consumers = [Collector(channel, queue, auto_ack=True) for _ in range(3)]
    channel.confirm_delivery()
    publish(channel, queue, *numbered(9))
    for consumer in consumers:
        consumer.wait(3)
    assert [len(consumer.got) for consumer in consumers] == [3, 3, 3]
    assert [consumer.bodies for consumer in consumers] == [
        [b"0", b"3", b"6"], [b"1", b"4", b"7"], [b"2", b"5", b"8"]]


def test_round_robin_between_connections_with_prefetch_one(broker, channel, name):
    channel.queue_declare(name)
    workers = []
    for _ in range(4):
        theirs = broker.channel()
        theirs.basic_qos(prefetch_count=1)
        workers.append(Collector(theirs, name))
    publish(channel, name, *numbered(40))
    deadline = time.monotonic() + 10
    settled = [0] * 4
    while sum(settled) < 40 and time.monotonic() < deadline:
        for index, worker in enumerate(workers):
            worker.channel.connection.process_data_events(time_limit=0.005)
            while settled[index] < len(worker.got):
                worker.channel.basic_ack(worker.tags[settled[index]])
                settled[index] += 1
    assert sorted(body for worker in workers for body in worker.bodies) == sorted(numbered(40))
    assert min(settled) >= 5, f"unfair: {settled}"
    channel.queue_delete(name)


def test_a_consumer_that_is_full_does_not_hold_up_the_others(channel, queue):
    channel.basic_qos(prefetch_count=1)
    slow = Collector(channel, queue)
    channel.basic_qos(prefetch_count=0)
    fast = Collector(channel, queue, auto_ack=True)
    publish(channel, queue, *numbered(20))
    fast.wait(19)
    assert len(slow.got) == 1
    assert sorted(slow.bodies + fast.bodies) == sorted(numbered(20))


def test_an_exclusive_consumer_is_alone(broker, channel, name):
    channel.queue_declare(name, auto_delete=True)
    consumer = Collector(channel, name, exclusive=True)
    other = broker.channel()
    refusal = 403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"
    closes_channel(other, *refusal, lambda: other.basic_consume(name, print))
    channel.queue_declare(name + ".2", exclusive=True)
    channel.basic_cancel(consumer.tag)


def test_an_exclusive_consumer_cannot_join_others(channel, queue):
    Collector(channel, queue)
    other = channel.connection.channel()
    closes_channel(other, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use",
                   lambda: other.basic_consume(queue, print, exclusive=True))


def test_a_consumer_tag_cannot_be_used_twice(connection, channel, queue):
    Collector(channel, queue, consumer_tag="mine")
    closes_connection(connection, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'", lambda: (
        channel._impl._send_method(spec.Basic.Consume(queue=queue, consumer_tag="mine"))))


def test_the_server_names_a_consumer(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)
        raw.send_method(1, spec.Basic.Consume(queue=name))
        first = raw.expect(spec.Basic.ConsumeOk, 1).consumer_tag
        raw.send_method(1, spec.Basic.Consume(queue=name))
        second = raw.expect(spec.Basic.ConsumeOk, 1).consumer_tag
        assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{16,}", first), first
        assert first != second


# --- cancel ----------------------------------------------------------------------------------------------------------

def test_after_cancel_nothing_more_is_delivered_and_unacked_stays_settleable(channel, queue):
    publish(channel, queue, b"1")
    consumer = Collector(channel, queue).wait(1)
    channel.basic_cancel(consumer.tag)
    publish(channel, queue, b"2")
    consumer.no_more()
    wait_depth(channel, queue, 1)
    channel.basic_reject(consumer.tags[0], requeue=True)
    wait_depth(channel, queue, 2)
    assert bodies(channel, queue) == [b"1", b"2"]


def test_cancelling_an_unknown_consumer_is_answered(broker):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Basic.Cancel("never"))
        assert raw.expect(spec.Basic.CancelOk, 1).consumer_tag == "never"


def test_a_client_that_can_is_told_when_its_queue_is_deleted(broker, channel, name):
    channel.queue_declare(name)
    cancelled = []
    worker = broker.channel()
    worker.add_on_cancel_callback(lambda frame_: cancelled.append(frame_.method.consumer_tag))
    consumer = Collector(worker, name)
    channel.queue_delete(name)

    def told():
        worker.connection.process_data_events(time_limit=0.02)
        return cancelled == [consumer.tag]

    until(told, "basic.cancel for the consumer of the deleted queue")
    assert worker.is_open


def test_a_client_that_cannot_is_not_told(broker, channel, name):
    channel.queue_declare(name)
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake(properties={"product": "without capabilities"}).open_channel(1)
        raw.send_method(1, spec.Basic.Consume(queue=name, consumer_tag="c"))
        raw.expect(spec.Basic.ConsumeOk, 1)
        channel.queue_delete(name)
        raw.send_method(1, spec.Queue.Declare(queue="", exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)


def test_nowait_methods_have_no_answer(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send(method_frame(1, spec.Queue.Declare(queue=name, exclusive=True, nowait=True)),
                 method_frame(1, spec.Queue.Bind(queue=name, exchange="amq.direct", routing_key=name, nowait=True)),
                 method_frame(1, spec.Basic.Consume(queue=name, consumer_tag="c", no_ack=True, nowait=True)),
                 method_frame(1, spec.Confirm.Select(nowait=True)),
                 method_frame(1, spec.Basic.Publish(exchange="amq.direct", routing_key=name)),
                 header_frame(1, 2), frame(3, 1, b"hi"))
        seen = {type(raw.expect((spec.Basic.Deliver, spec.Basic.Ack), 1)) for _ in range(1)}
        if spec.Basic.Ack in seen:
            raw.expect(spec.Basic.Deliver, 1)
        assert raw.read_frame()[0] == 2
        assert raw.read_frame()[2] == b"hi"


def test_auto_ack_messages_do_not_come_back(broker, channel, name):
    channel.queue_declare(name)
    worker = broker.connect()
    publish(channel, name, *numbered(5))
    Collector(worker.channel(), name, auto_ack=True).wait(5)
    worker.close()
    assert channel.queue_delete(name).method.message_count == 0


def test_what_was_in_flight_to_a_vanished_client_comes_back_in_order(broker, channel, name):
    """The client's socket just goes away, with 20 messages unacked and 30 waiting."""
    channel.queue_declare(name)
    raw = RawAmqp(broker.host, broker.port)
    raw.handshake().open_channel(1)
    raw.send_method(1, spec.Basic.Qos(prefetch_count=20))
    raw.expect(spec.Basic.QosOk, 1)
    publish(channel, name, *numbered(50))
    wait_depth(channel, name, 50)
    raw.send_method(1, spec.Basic.Consume(queue=name, consumer_tag="c"))
    raw.expect(spec.Basic.ConsumeOk, 1)
    wait_depth(channel, name, 30)
    raw.close()
    wait_depth(channel, name, 50)
    assert bodies(channel, name) == numbered(50)
    channel.queue_delete(name)


def test_no_local_is_accepted_and_ignored(broker, name):
    """RabbitMQ never implemented no_local: the publisher's own consumer gets the message."""
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)
        raw.send_method(1, spec.Basic.Consume(queue=name, no_local=True, no_ack=True))
        raw.expect(spec.Basic.ConsumeOk, 1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)), header_frame(1, 0))
        raw.expect(spec.Basic.Deliver, 1)


def test_pika_generator_consumer(channel, queue):
    publish(channel, queue, *numbered(5))
    seen = []
    for method, _, body in channel.consume(queue, inactivity_timeout=2):
        assert method is not None, "no message within 2 s"
        seen.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 5:
            break
    assert channel.cancel() == 0
    assert seen == numbered(5)


def test_pika_properties_of_a_reply(channel, queue):
    """The request/reply everybody writes by hand: a private queue, reply_to and correlation_id."""
    answers = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"2", pika.BasicProperties(reply_to=answers, correlation_id="42"))
    _, request, body = get(channel, queue)
    channel.basic_publish("", request.reply_to, b"%d" % (int(body) ** 10),
                          pika.BasicProperties(correlation_id=request.correlation_id))
    _, reply, body = get(channel, answers)
    assert (reply.correlation_id, body) == ("42", b"1024")
