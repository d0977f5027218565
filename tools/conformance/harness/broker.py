"""The broker under test as pika sees it, and short words for what the AMQP tests say often."""

import contextlib
import time

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker, ConnectionClosedByBroker

from harness.definitions import password_of
from harness.wait import until

PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Broker:
    """An address; keeps what it opened, to close it after the test."""

    def __init__(self, host, port):
        self.host, self.port, self.opened = host, port, []

    def parameters(self, user="guest", password=None, vhost="/", **more):
        more.setdefault("socket_timeout", 5)
        more.setdefault("blocked_connection_timeout", 20)
        credentials = pika.PlainCredentials(user, password_of(user) if password is None else password)
        return pika.ConnectionParameters(self.host, self.port, vhost, credentials, **more)

    def connect(self, user="guest", password=None, vhost="/", **more):
        connection = pika.BlockingConnection(self.parameters(user, password, vhost, **more))
        self.opened.append(connection)
        return connection

    def channel(self, **more):
        return self.connect(**more).channel()

    def close(self):
        for connection in self.opened:
            with contextlib.suppress(AMQPError):
                if connection.is_open:
                    connection.close()


def same_reason(closed, code, text):
    """`text` is the exact text, or a compiled pattern for the few texts where Erlang prints a term."""
    assert closed.reply_code == code, f"{closed.reply_code} {closed.reply_text!r}, expected {code} {text!r}"
    if isinstance(text, str):
        assert closed.reply_text == text
    else:
        assert text.fullmatch(closed.reply_text), f"{closed.reply_text!r} does not match {text.pattern!r}"


def closes_channel(channel, code, text, action):
    """Runs `action` and checks that the server closes the channel, and only it, with exactly this code and text."""
    connection = channel.connection
    try:
        action()
        deadline = time.monotonic() + 5
        while channel.is_open and time.monotonic() < deadline:
            connection.process_data_events(time_limit=0.02)
        assert channel.is_closed, f"the channel stayed open; expected {code} {text!r}"
        raise channel._closing_reason  # pylint: disable=protected-access; pika has no public word for it
    except ChannelClosedByBroker as closed:
        same_reason(closed, code, text)
    assert connection.is_open, "a soft error must not close the connection"
    connection.channel().close()


def closes_connection(connection, code, text, action):
    """The same for a hard error, which ends the connection."""
    try:
        action()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            connection.process_data_events(time_limit=0.02)
        raise AssertionError(f"the connection stayed open; expected {code} {text!r}")
    except ConnectionClosedByBroker as closed:
        same_reason(closed, code, text)


def publish(channel, queue, *bodies, exchange="", properties=None):
    for body in bodies:
        channel.basic_publish(exchange, queue, body, properties)


def depth(channel, queue):
    """Ready messages, by passive declare."""
    return channel.queue_declare(queue, passive=True).method.message_count


def wait_depth(channel, queue, count, timeout_s=5):
    until(lambda: depth(channel, queue) == count, f"{queue} has {count} messages ready", timeout_s)


def get(channel, queue, timeout_s=5, auto_ack=True):
    """One message by basic.get, waited for: (method, properties, body)."""
    return until(lambda: _got(channel, queue, auto_ack), f"a message in {queue}", timeout_s)


def _got(channel, queue, auto_ack):
    answer = channel.basic_get(queue, auto_ack=auto_ack)
    return answer if answer[0] is not None else None


def bodies(channel, queue):
    """Takes everything that is ready now, in order."""
    taken = []
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        taken.append(answer[2])
    return taken


class Collector:
    """A consumer that keeps what it gets as (method, properties, body)."""

    def __init__(self, channel, queue, auto_ack=False, **options):
        self.channel, self.got, self.cancelled = channel, [], []
        self.tag = channel.basic_consume(queue, self.take, auto_ack=auto_ack, **options)

    def take(self, _channel, method, properties, body):
        self.got.append((method, properties, body))

    @property
    def bodies(self):
        return [body for _, _, body in self.got]

    @property
    def tags(self):
        return [method.delivery_tag for method, _, _ in self.got]

    def wait(self, count, timeout_s=5):
        """Runs the connection until `count` messages have come in all; returns self."""
        deadline = time.monotonic() + timeout_s
        while len(self.got) < count and time.monotonic() < deadline:
            self.channel.connection.process_data_events(time_limit=0.02)
        assert len(self.got) >= count, f"expected {count} deliveries, got {len(self.got)}: {self.bodies[:20]}"
        return self

    def no_more(self, for_s=0.25):
        """Fails if another message comes inside the window."""
        before = len(self.got)
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            self.channel.connection.process_data_events(time_limit=0.02)
        assert len(self.got) == before, f"unexpected deliveries: {self.bodies[before:][:20]}"
        return self
