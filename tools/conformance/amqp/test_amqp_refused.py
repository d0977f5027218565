"""What issue 2 leaves out is refused by name, never silently accepted. Only meaningful against our binary: RabbitMQ has
these features. A refusal is 406 (the channel goes) or 540 (the connection goes); either must name what is missing, so
that a user knows what to look for."""

import pika.exceptions
import pytest

from harness.amqp_raw import RawAmqp

pytestmark = pytest.mark.ours
CLOSED = (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker)


def refused_by_name(what, action):
    with pytest.raises(CLOSED) as caught:
        action()
    assert caught.value.reply_code in (406, 540), caught.value
    assert what in caught.value.reply_text, caught.value.reply_text


@pytest.mark.parametrize("argument, value", [
    ("x-queue-type", "stream"),
])
def test_queue_arguments_not_built_yet(broker, channel, name, argument, value):
    refused_by_name(argument, lambda: channel.queue_declare(name, durable=True, arguments={argument: value}))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        broker.channel().queue_declare(name, passive=True)
    assert caught.value.reply_code == 404, "a refused declare must not make the queue"


def test_classic_by_name_is_what_we_have(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-queue-type": "classic"})
    assert channel.queue_declare(name, passive=True).method.message_count == 0


@pytest.mark.parametrize("kind", ["x-consistent-hash", "x-random"])
def test_exchange_types_of_plugins(connection, name, kind):
    channel = connection.channel()
    with pytest.raises(CLOSED) as caught:
        channel.exchange_declare(name, kind)
    assert kind in caught.value.reply_text




def test_direct_reply_to(channel):
    refused_by_name("amq.rabbitmq.reply-to",
                    lambda: channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True))


def test_direct_reply_to_is_then_not_advertised(broker):
    """Refused and announced at once would be a lie in the handshake."""
    with RawAmqp(broker.host, broker.port) as raw:
        capabilities = raw.greet().server_properties["capabilities"]
        assert not capabilities.get("direct_reply_to")
