"""Records what pika sends. See README.md.

    python record.py HOST PORT

runs each program below against the AMQP 0-9-1 broker at HOST:PORT (guest/guest) and writes what the client sent,
byte for byte, to NAME.bin beside this file.
"""

import datetime
import decimal
import pathlib
import socket
import sys
import threading

import pika

HERE = pathlib.Path(__file__).resolve().parent


def record(name, broker, program):
    sent = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def relay(source, target, keep):
        while data := source.recv(65536):
            if keep:
                sent.extend(data)
            target.sendall(data)
        target.close()

    def serve():
        client, _ = listener.accept()
        server = socket.create_connection(broker)
        back = threading.Thread(target=relay, args=(server, client, False), daemon=True)
        back.start()
        try:
            relay(client, server, True)
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    parameters = pika.ConnectionParameters("127.0.0.1", listener.getsockname()[1], heartbeat=0)
    connection = pika.BlockingConnection(parameters)
    program(connection)
    connection.close()
    thread.join(5)
    (HERE / f"{name}.bin").write_bytes(sent)
    print(name, len(sent), "bytes")


def hello(connection):
    """RabbitMQ's first tutorial."""
    channel = connection.channel()
    channel.queue_declare(queue="hello")
    channel.basic_publish(exchange="", routing_key="hello", body=b"Hello World!")
    for method, _, _ in channel.consume("hello", auto_ack=True):
        break
    channel.cancel()


def confirmed(connection):
    """Durable everything, with confirms and a mandatory message that finds no queue."""
    channel = connection.channel()
    channel.exchange_declare("captured", "direct", durable=True)
    channel.queue_declare("captured", durable=True, arguments={"x-max-priority": 10, "x-message-ttl": 60000})
    channel.queue_bind("captured", "captured", "key")
    channel.confirm_delivery()
    channel.basic_publish("captured", "key", b"x" * 300_000, pika.BasicProperties(delivery_mode=2), mandatory=True)
    try:
        channel.basic_publish("captured", "nobody", b"lost", mandatory=True)
    except pika.exceptions.UnroutableError:
        pass
    channel.queue_delete("captured")
    channel.exchange_delete("captured")


def settled(connection):
    """Get, ack, nack, reject, qos, recover, purge, unbind."""
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.fanout")
    for n in range(6):
        channel.basic_publish("amq.fanout", "", f"message {n}".encode())
    channel.basic_qos(prefetch_count=4)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
    channel.basic_ack(tags[0])
    channel.basic_nack(tags[2], multiple=True, requeue=True)
    channel.basic_reject(tags[3], requeue=False)
    channel.basic_recover(requeue=True)
    channel.queue_unbind(queue, "amq.fanout")
    channel.queue_purge(queue)
    channel.close()


def properties(connection):
    """Every property and every type of value pika knows."""
    channel = connection.channel()
    channel.queue_declare("properties", auto_delete=True)
    headers = {
        "text": "grüße", "bytes": b"\x00\xff", "yes": True, "int": 5, "negative": -5, "long": 2**40, "none": None,
        "decimal": decimal.Decimal("3.14"), "when": datetime.datetime(2024, 1, 2, 3, 4, 5),
        "table": {"inner": [1, "two", {"three": 3}]}, "list": [1, 2**40, "x", None, []], "empty": {},
    }
    channel.basic_publish("", "properties", b"{}", pika.BasicProperties(
        content_type="application/json", content_encoding="utf-8", headers=headers, delivery_mode=1, priority=3,
        correlation_id="c-1", reply_to="replies", expiration="60000", message_id="m-1", timestamp=1700000000,
        type="kind", user_id="guest", app_id="captures", cluster_id="cluster"))
    channel.queue_delete("properties")


def refused(connection):
    """A channel that is closed by the broker, and life after it."""
    channel = connection.channel()
    try:
        channel.queue_declare("nowhere", passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        pass
    connection.channel().close()


if __name__ == "__main__":
    address = (sys.argv[1], int(sys.argv[2]))
    for each in (hello, confirmed, settled, properties, refused):
        record(each.__name__, address, each)
