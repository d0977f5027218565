"""The programs of the articles the product was conceived from, making exactly their calls."""

import pika

from harness.broker import PERSISTENT, Collector


def test_hello_world_in_python(broker):
    """Producer and consumer of the articles: a plain queue `hello`, default exchange, auto-ack."""
    connection = broker.connect()
    channel = connection.channel()
    channel.queue_declare(queue="hello")
    channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")
    connection.close()

    received = []
    channel = broker.channel()
    channel.queue_declare(queue="hello")

    def callback(ch, method, properties, body):
        received.append((method.exchange, method.routing_key, body))
        ch.stop_consuming()

    channel.basic_consume(queue="hello", auto_ack=True, on_message_callback=callback)
    channel.start_consuming()
    assert received == [("", "hello", b"Hello World!")]
    assert channel.queue_delete("hello").method.message_count == 0
    print("hello: published, closed, consumed with auto-ack")


def test_java_producer_and_consumer_in_pika(broker):
    """exchangeDeclare(direct, durable), queueDeclare(durable), queueBind, PERSISTENT_TEXT_PLAIN, basicConsume(auto-ack)."""
    text_plain = pika.BasicProperties(content_type="text/plain", delivery_mode=2, priority=0)

    def declare(channel):
        channel.exchange_declare("my_exchange", "direct", durable=True, auto_delete=False)
        channel.queue_declare("my_queue", durable=True, exclusive=False, auto_delete=False)
        channel.queue_bind("my_queue", "my_exchange", "route_key")

    producer = broker.connect()
    channel = producer.channel()
    declare(channel)
    channel.basic_publish("my_exchange", "route_key", "Hello, World!", text_plain)
    channel.close()
    producer.close()

    channel = broker.channel()
    declare(channel)
    consumer = Collector(channel, "my_queue", auto_ack=True).wait(1)
    method, properties, body = consumer.got[0]
    assert (method.exchange, method.routing_key, method.redelivered, body) == (
        "my_exchange", "route_key", False, b"Hello, World!")
    assert (properties.content_type, properties.delivery_mode, properties.priority) == ("text/plain", 2, 0)
    channel.queue_delete("my_queue")
    channel.exchange_delete("my_exchange")
    print("durable direct exchange, binding, persistent publish, consume: as in the Java programs")


def test_a_work_queue_with_manual_acks(broker, name):
    """The shape every worker has: durable queue, prefetch 1, ack after the work."""
    channel = broker.channel()
    channel.queue_declare(name, durable=True)
    for number in range(20):
        channel.basic_publish("", name, str(number), PERSISTENT)
    done = []

    def work(ch, method, _properties, body):
        done.append(int(body))
        ch.basic_ack(method.delivery_tag)
        if len(done) == 20:
            ch.stop_consuming()

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(name, work)
    channel.start_consuming()
    assert done == list(range(20))
    assert channel.queue_delete(name).method.message_count == 0
