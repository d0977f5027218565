"""configure, write and read are checked on every operation (reference 1.1.7); the user is `limited` of definitions.py:
a resource named `cw-…` may be configured and written but not read, and so on. `all_` makes what it must not make."""

import uuid

import pytest

from harness.broker import closes_channel
from harness.definitions import IMPERSONATOR

import pika


@pytest.fixture
def limited(broker):
    return broker.connect("limited")


@pytest.fixture
def made(channel):
    """Makes queues and exchanges as guest, under a name with the wanted permission letters; removes them afterwards."""
    queues, exchanges = [], []

    class Made:
        @staticmethod
        def queue(letters):
            queues.append(f"{letters}-{uuid.uuid4().hex[:8]}")
            channel.queue_declare(queues[-1])
            return queues[-1]

        @staticmethod
        def exchange(letters, **options):
            exchanges.append(f"{letters}-{uuid.uuid4().hex[:8]}")
            channel.exchange_declare(exchanges[-1], "topic", **options)
            return exchanges[-1]

    yield Made
    for queue in queues:
        channel.queue_delete(queue)
    for exchange in exchanges:
        channel.exchange_delete(exchange)


def refused(access, kind, resource, user="limited", vhost="/"):
    return 403, f"ACCESS_REFUSED - access to {kind} '{resource}' in vhost '{vhost}' refused for user '{user}'"


def check(limited, access, kind, resource, action):
    channel = limited.channel()
    closes_channel(channel, *refused(access, kind, resource), lambda: action(channel))


def test_what_is_allowed_works(limited):
    channel = limited.channel()
    queue = channel.queue_declare("cwr-mine").method.queue
    channel.exchange_declare("cwr-x", "direct")
    channel.queue_bind(queue, "cwr-x", "k")
    channel.confirm_delivery()
    channel.basic_publish("cwr-x", "k", b"hello", mandatory=True)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"hello"
    channel.queue_purge(queue)
    channel.queue_unbind(queue, "cwr-x", "k")
    channel.exchange_delete("cwr-x")
    channel.queue_delete(queue)


def test_declaring_a_queue_needs_configure(limited):
    check(limited, "configure", "queue", "wr-new", lambda ch: ch.queue_declare("wr-new"))


def test_declaring_an_existing_queue_needs_configure_too(limited, made):
    queue = made.queue("wr")
    check(limited, "configure", "queue", queue, lambda ch: ch.queue_declare(queue))


@pytest.mark.parametrize("letters", ["c", "w", "r"])
def test_passive_declare_needs_any_of_the_three(limited, made, letters):
    assert limited.channel().queue_declare(made.queue(letters), passive=True).method.message_count == 0


def test_deleting_a_queue_needs_configure(limited, made):
    queue = made.queue("wr")
    check(limited, "configure", "queue", queue, lambda ch: ch.queue_delete(queue))


def test_declaring_an_exchange_needs_configure(limited):
    check(limited, "configure", "exchange", "wr-x", lambda ch: ch.exchange_declare("wr-x", "fanout"))


def test_deleting_an_exchange_needs_configure(limited, made):
    exchange = made.exchange("wr")
    check(limited, "configure", "exchange", exchange, lambda ch: ch.exchange_delete(exchange))


def test_publishing_needs_write_on_the_exchange(limited, made):
    exchange = made.exchange("cr")
    check(limited, "write", "exchange", exchange, lambda ch: ch.basic_publish(exchange, "k", b""))


def test_publishing_to_the_default_exchange_is_checked_as_amq_default(limited, made):
    queue = made.queue("cwr")
    check(limited, "write", "exchange", "amq.default", lambda ch: ch.basic_publish("", queue, b""))


def test_getting_needs_read(limited, made):
    queue = made.queue("cw")
    check(limited, "read", "queue", queue, lambda ch: ch.basic_get(queue))


def test_consuming_needs_read(limited, made):
    queue = made.queue("cw")
    check(limited, "read", "queue", queue, lambda ch: ch.basic_consume(queue, print))


def test_purging_needs_read(limited, made):
    queue = made.queue("cw")
    check(limited, "read", "queue", queue, lambda ch: ch.queue_purge(queue))


def test_binding_a_queue_needs_write_on_the_queue(limited, made):
    queue, exchange = made.queue("cr"), made.exchange("r")
    check(limited, "write", "queue", queue, lambda ch: ch.queue_bind(queue, exchange, "k"))


def test_binding_a_queue_needs_read_on_the_exchange(limited, made):
    queue, exchange = made.queue("w"), made.exchange("cw")
    check(limited, "read", "exchange", exchange, lambda ch: ch.queue_bind(queue, exchange, "k"))


def test_unbinding_a_queue_needs_write_on_the_queue(limited, made, channel):
    queue, exchange = made.queue("cr"), made.exchange("r")
    channel.queue_bind(queue, exchange, "k")
    check(limited, "write", "queue", queue, lambda ch: ch.queue_unbind(queue, exchange, "k"))


def test_unbinding_a_queue_needs_read_on_the_exchange(limited, made, channel):
    queue, exchange = made.queue("w"), made.exchange("cw")
    channel.queue_bind(queue, exchange, "k")
    check(limited, "read", "exchange", exchange, lambda ch: ch.queue_unbind(queue, exchange, "k"))


def test_binding_exchanges_needs_write_on_the_destination(limited, made):
    destination, source = made.exchange("cr"), made.exchange("r")
    check(limited, "write", "exchange", destination, lambda ch: ch.exchange_bind(destination, source, "k"))


def test_binding_exchanges_needs_read_on_the_source(limited, made):
    destination, source = made.exchange("w"), made.exchange("cw")
    check(limited, "read", "exchange", source, lambda ch: ch.exchange_bind(destination, source, "k"))


def test_an_alternate_exchange_needs_write_on_it(limited):
    check(limited, "write", "exchange", "r-alternate",
          lambda ch: ch.exchange_declare("cr-x", "direct", arguments={"alternate-exchange": "r-alternate"}))


def test_an_alternate_exchange_needs_read_on_the_exchange(limited):
    check(limited, "read", "exchange", "cw-x",
          lambda ch: ch.exchange_declare("cw-x", "direct", arguments={"alternate-exchange": "w-alternate"}))


def test_a_dead_letter_exchange_needs_write_on_it(limited):
    check(limited, "write", "exchange", "r-dead",
          lambda ch: ch.queue_declare("cr-q", arguments={"x-dead-letter-exchange": "r-dead"}))


def test_a_dead_letter_exchange_needs_read_on_the_queue(limited):
    check(limited, "read", "queue", "cw-q",
          lambda ch: ch.queue_declare("cw-q", arguments={"x-dead-letter-exchange": "w-dead"}))


def test_an_empty_pattern_allows_nothing(broker):
    """Even a server-named queue: its name does not match an empty configure pattern."""
    channel = broker.connect("blank").channel()
    closes_channel(channel, *refused("configure", "queue", "q", "blank"), lambda: channel.queue_declare("q"))


def test_a_refusal_leaves_the_object_untouched(limited, made, channel):
    queue = made.queue("wr")
    channel.basic_publish("", queue, b"stays")
    check(limited, "configure", "queue", queue, lambda ch: ch.queue_delete(queue))
    assert channel.queue_declare(queue, passive=True).method.message_count == 1


def test_a_vhost_is_a_world_of_its_own(broker, name):
    here, there = broker.channel(), broker.channel(vhost="tenant")
    here.queue_declare(name)
    there.queue_declare(name, durable=True)
    there.basic_publish("", name, b"in the tenant's queue")
    assert here.basic_get(name, auto_ack=True)[0] is None
    assert there.basic_get(name, auto_ack=True)[2] == b"in the tenant's queue"
    here.queue_delete(name)
    there.queue_delete(name)


def test_user_id_must_be_the_connection_user(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"mine", pika.BasicProperties(user_id="guest"))
    assert channel.basic_get(name, auto_ack=True)[1].user_id == "guest"
    closes_channel(channel, 406,
                   "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
                   lambda: channel.basic_publish("", name, b"", pika.BasicProperties(user_id="somebody")))


def test_an_impersonator_may_name_another_user(broker, name):
    channel = broker.channel(user=IMPERSONATOR)
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("", name, b"", pika.BasicProperties(user_id="guest"))
    assert channel.basic_get(name, auto_ack=True)[1].user_id == "guest"


def test_definitions_made_the_objects_they_list(channel):
    channel.confirm_delivery()
    channel.basic_publish("defined.x", "made.by.definitions", b"routed", mandatory=True)
    assert channel.basic_get("defined.q", auto_ack=True)[2] == b"routed"
    closes_channel(channel, 406, "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'defined.q' in "
                                 "vhost '/': received none but current is the value '4' of type 'long'",
                   lambda: channel.queue_declare("defined.q", durable=True))
