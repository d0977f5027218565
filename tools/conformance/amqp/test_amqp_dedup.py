"""Queues that take a message once. RabbitMQ has this as a plugin that is not installed beside the oracle."""

import uuid

import pika
import pytest

from harness.broker import bodies, publish

pytestmark = pytest.mark.ours
ONCE = {"x-message-deduplication": True}


def with_id(message_id, **more):
    return pika.BasicProperties(delivery_mode=2, message_id=message_id, **more)


def numbered(producer, number):
    return pika.BasicProperties(delivery_mode=2, headers={"x-producer-id": producer, "x-producer-seq": number})


def test_a_resend_is_confirmed_and_not_enqueued(channel, name):
    channel.queue_declare(name, durable=True, arguments=ONCE)
    channel.confirm_delivery()
    for _ in range(3):
        publish(channel, name, b"1", properties=with_id("a"))
    publish(channel, name, b"2", properties=with_id("b"))
    publish(channel, name, b"3", b"3")
    assert bodies(channel, name) == [b"1", b"2", b"3", b"3"]
    publish(channel, name, b"1", properties=with_id("a"))
    assert bodies(channel, name) == [], "its end does not make it new"
    channel.queue_delete(name)


def test_the_header_and_its_name(channel, name):
    channel.queue_declare(name, durable=True, arguments={**ONCE, "x-deduplication-header": "order-id"})
    channel.confirm_delivery()
    for body, order in ((b"1", 7), (b"2", "seven"), (b"3", 7), (b"4", "seven")):
        publish(channel, name, body, properties=with_id(str(uuid.uuid4()), headers={"order-id": order}))
    assert bodies(channel, name) == [b"1", b"2"]
    channel.queue_delete(name)


def test_a_producers_sequence(channel, name):
    channel.queue_declare(name, durable=True, arguments=ONCE)
    channel.confirm_delivery()
    for number in (0, 1, 5, 3, 5, 6):
        publish(channel, name, b"%d" % number, properties=numbered("p", number))
    publish(channel, name, b"other", properties=numbered("q", 1))
    assert bodies(channel, name) == [b"0", b"1", b"5", b"6", b"other"]
    channel.queue_delete(name)


def test_a_window_of_two(channel, name):
    channel.queue_declare(name, durable=True, arguments={**ONCE, "x-cache-size": 2})
    channel.confirm_delivery()
    for message_id in "abcac":
        publish(channel, name, message_id.encode(), properties=with_id(message_id))
    assert bodies(channel, name) == [b"a", b"b", b"c", b"a"]
    channel.queue_delete(name)


def test_kill_9_forgets_nothing(start_server):
    server = start_server()
    for last in (50, 100, 150):
        sender = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
        sender.confirm_delivery()
        sender.queue_declare("once", durable=True, arguments=ONCE)
        for number in range(last):
            publish(sender, "once", b"%d" % number, properties=with_id(str(number)))
            publish(sender, "once", b"p%d" % number, properties=numbered("p", number))
        server.kill()
        server.start()
    reader = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
    expected = [b"%d" % number for number in range(150)] + [b"p%d" % number for number in range(150)]
    assert sorted(bodies(reader, "once")) == sorted(expected)
