"""Transactions (class tx): everything at the commit, nothing at a rollback. RabbitMQ promises that per queue only, so what
is the same on both is tested here, and that a crash leaves a whole transaction or none in crash/test_crash_tx.py."""

import pytest
from pika import spec

from harness.amqp_raw import CONTENT_HEADER, RawAmqp, header_frame, method_frame
from harness.broker import PERSISTENT, Collector, bodies, closes_channel, depth, get, publish, wait_depth


@pytest.fixture
def tx(broker):
    """A transactional channel."""
    channel = broker.channel()
    channel.tx_select()
    return channel


@pytest.fixture
def queues(channel, name):
    """Three durable queues."""
    names = [f"{name}-{letter}" for letter in "abc"]
    for queue in names:
        channel.queue_declare(queue, durable=True)
    yield names
    for queue in names:
        channel.queue_delete(queue)


def test_nothing_is_seen_before_the_commit_and_all_after_it(channel, tx, queues):
    for queue in queues:
        publish(tx, queue, b"1", b"2", properties=PERSISTENT)
    assert tx.queue_declare(queues[0], passive=True).method.message_count == 0
    assert [depth(channel, queue) for queue in queues] == [0, 0, 0]
    tx.tx_commit()
    for queue in queues:
        wait_depth(channel, queue, 2)
        assert bodies(channel, queue) == [b"1", b"2"]


def test_a_consumer_gets_them_after_the_commit_only(channel, tx, queues):
    consumer = Collector(channel, queues[0], auto_ack=True)
    publish(tx, queues[0], b"1")
    consumer.no_more()
    tx.tx_commit()
    assert consumer.wait(1).bodies == [b"1"]


def test_a_rollback_drops_what_was_published(channel, tx, queues):
    publish(tx, queues[0], b"never")
    tx.tx_rollback()
    publish(tx, queues[0], b"1")
    tx.tx_commit()
    wait_depth(channel, queues[0], 1)
    assert bodies(channel, queues[0]) == [b"1"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_publish_that_is_refused_fails_the_commit(channel, queues, name, overflow):
    """Everything else of the transaction has happened; the channel is closed to say so."""
    channel.queue_declare(name, exclusive=True, arguments={
        "x-max-length": 1, "x-overflow": overflow, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queues[2]})
    publish(channel, queues[1], b"settled")
    tx = channel.connection.channel()
    tx.tx_select()
    method, _, _ = get(tx, queues[1], auto_ack=False)
    publish(tx, name, b"1", b"2")
    publish(tx, queues[0], b"3", properties=PERSISTENT)
    tx.basic_ack(method.delivery_tag)
    closes_channel(tx, 406, "PRECONDITION_FAILED - partial tx completion", tx.tx_commit)
    assert bodies(channel, name) == [b"1"]
    assert bodies(channel, queues[0]) == [b"3"]
    assert depth(channel, queues[1]) == 0
    if overflow == "reject-publish-dlx":
        assert get(channel, queues[2])[2] == b"2"


def test_closing_the_channel_is_a_rollback(channel, tx, queues):
    publish(channel, queues[1], b"held")
    method, _, _ = get(tx, queues[1], auto_ack=False)
    publish(tx, queues[0], b"never")
    tx.basic_ack(method.delivery_tag)
    tx.close()
    method, _, body = get(channel, queues[1])
    assert (body, method.redelivered) == (b"held", True)
    assert depth(channel, queues[0]) == 0


def test_acks_count_with_the_commit(broker, channel, queues):
    publish(channel, queues[0], b"1", b"2", b"3")
    other = broker.channel()
    other.tx_select()
    consumer = Collector(other, queues[0]).wait(3)
    other.basic_ack(consumer.tags[1], multiple=True)
    other.tx_commit()
    other.basic_ack(consumer.tags[2])
    other.close()
    wait_depth(channel, queues[0], 1)
    assert bodies(channel, queues[0]) == [b"3"], "what was not committed is back"


def test_a_rollback_makes_acks_undone_without_a_redelivery(channel, tx, queues):
    publish(channel, queues[0], b"1", b"2")
    consumer = Collector(tx, queues[0]).wait(2)
    tx.basic_ack(consumer.tags[0])
    tx.basic_reject(consumer.tags[1], requeue=False)
    tx.tx_rollback()
    consumer.no_more()
    tx.basic_ack(consumer.tags[1], multiple=True)
    tx.tx_commit()
    tx.close()
    assert depth(channel, queues[0]) == 0


def test_prefetch_is_freed_by_the_commit(channel, tx, queues):
    publish(channel, queues[0], b"1", b"2")
    tx.basic_qos(prefetch_count=1)
    consumer = Collector(tx, queues[0]).wait(1)
    tx.basic_ack(consumer.tags[0])
    consumer.no_more()
    tx.tx_commit()
    assert consumer.wait(2).bodies == [b"1", b"2"]


def test_requeues_and_rejects_count_with_the_commit(channel, tx, name):
    dead, queue = f"{name}-dead", f"{name}-q"
    channel.queue_declare(dead)
    channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    publish(channel, queue, b"1", b"2")
    consumer = Collector(tx, queue).wait(2)
    tx.basic_nack(consumer.tags[0], requeue=True)
    tx.basic_reject(consumer.tags[1], requeue=False)
    consumer.no_more()
    assert depth(channel, dead) == 0
    tx.tx_commit()
    consumer.wait(3)
    assert (consumer.bodies[2], consumer.got[2][0].redelivered) == (b"1", True)
    _, properties, body = get(channel, dead)
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"2", "rejected")
    tx.close()
    channel.queue_delete(queue)
    channel.queue_delete(dead)


def test_recover_is_no_part_of_the_transaction(channel, tx, queues):
    publish(channel, queues[0], b"1", b"2")
    consumer = Collector(tx, queues[0]).wait(2)
    tx.basic_ack(consumer.tags[0])
    tx.basic_recover(requeue=True)
    consumer.wait(3).no_more()
    assert (consumer.bodies[2], consumer.got[2][0].redelivered) == (b"2", True)
    tx.tx_commit()
    tx.close()
    wait_depth(channel, queues[0], 1)


def test_a_missing_exchange_is_told_when_it_is_published_to(tx):
    closes_channel(tx, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'",
                   lambda: publish(tx, "q", b"1", exchange="nowhere"))


def test_a_tag_settled_in_the_transaction_is_unknown(channel, tx, queues):
    publish(channel, queues[0], b"1")
    method, _, _ = get(tx, queues[0], auto_ack=False)
    tx.basic_ack(method.delivery_tag)
    closes_channel(tx, 406, f"PRECONDITION_FAILED - unknown delivery tag {method.delivery_tag}",
                   lambda: tx.basic_ack(method.delivery_tag))


@pytest.mark.parametrize("step", ["tx_commit", "tx_rollback"])
def test_an_ordinary_channel_has_no_transaction(channel, step):
    closes_channel(channel, 406, "PRECONDITION_FAILED - channel is not transactional",
                   lambda: getattr(channel, step)())


def test_confirms_and_transactions_exclude_each_other(broker):
    confirming = broker.channel()
    confirming.confirm_delivery()
    closes_channel(confirming, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", confirming.tx_select)
    transactional = broker.channel()
    transactional.tx_select()
    transactional.tx_select()
    closes_channel(transactional, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
                   transactional.confirm_delivery)


def unroutable(raw):
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key="nowhere", mandatory=True)), header_frame(1, 0))


def test_what_cannot_be_routed_comes_back_before_commit_ok(broker):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Tx.Select())
        raw.expect(spec.Tx.SelectOk, 1)
        unroutable(raw)
        raw.send_method(1, spec.Tx.Rollback())
        raw.expect(spec.Tx.RollbackOk, 1)
        unroutable(raw)
        raw.send_method(1, spec.Tx.Commit())
        returned = raw.expect(spec.Basic.Return, 1)
        assert (returned.reply_code, returned.reply_text, returned.routing_key) == (312, "NO_ROUTE", "nowhere")
        assert raw.read_frame()[0] == CONTENT_HEADER
        raw.expect(spec.Tx.CommitOk, 1)
