"""Other people's clients: py-amqp and kombu (which log in with AMQPLAIN), aio-pika, and pika's async adapters' habits."""

import asyncio
import ssl

import aio_pika
import amqp
import kombu
import pika
import pytest
import trustme

from harness.broker import Collector
from harness.definitions import password_of


def test_py_amqp_logs_in_with_amqplain_and_confirms(broker, name):
    with amqp.Connection(f"{broker.host}:{broker.port}", userid="full", password=password_of("full"),
                         login_method="AMQPLAIN", confirm_publish=True) as connection:
        assert connection.server_properties["product"]
        channel = connection.channel()
        channel.queue_declare(name, exclusive=True, auto_delete=False)
        channel.basic_publish_confirm(amqp.Message("hello", content_type="text/plain", application_headers={
            "float": 2.5, "list": [1, "two", 3.5], "void": None}), routing_key=name)
        message = channel.basic_get(name, no_ack=True)
        assert (message.body, message.content_type) == ("hello", "text/plain")
        assert message.headers == {"float": 2.5, "list": [1, "two", 3.5], "void": None}


def test_py_amqp_heartbeat_and_channel_errors(broker, name):
    with amqp.Connection(f"{broker.host}:{broker.port}", heartbeat=1) as connection:
        channel = connection.channel()
        with pytest.raises(amqp.exceptions.NotFound) as caught:
            channel.queue_declare(name, passive=True)
        assert (caught.value.code, caught.value.method_name) == (404, "Queue.declare")
        assert caught.value.message == f"NOT_FOUND - no queue '{name}' in vhost '/'"
        connection.heartbeat_tick()
        assert connection.channel().queue_declare("", exclusive=True).message_count == 0


def test_kombu_simple_queue_with_priority_and_json(broker, name):
    address = f"amqp://guest:guest@{broker.host}:{broker.port}//"
    with kombu.Connection(address) as connection:
        queue = kombu.Queue(name, kombu.Exchange(name + ".x", "topic", auto_delete=True), "tasks.#", max_priority=9,
                            auto_delete=True, durable=False)
        producer = connection.Producer(serializer="json")
        channel = connection.default_channel
        queue(channel).declare()
        for priority in (0, 9, 4):
            producer.publish({"priority": priority}, exchange=queue.exchange, routing_key="tasks.any",
                             priority=priority, delivery_mode=1)
        seen = []

        def on_message(body, message):
            seen.append(body["priority"])
            message.ack()

        until_three(channel, name)
        with connection.Consumer(queue, callbacks=[on_message]):
            while len(seen) < 3:
                connection.drain_events(timeout=5)
        assert seen == [9, 4, 0]


def until_three(channel, name):
    from harness.wait import until

    until(lambda: channel.queue_declare(name, passive=True).message_count == 3, "three messages ready")


def test_kombu_event_broadcast_over_fanout(broker, name):
    """celery's remote control in small: a fanout exchange, auto-delete queues with TTL and expiry."""
    with kombu.Connection(f"amqp://guest:guest@{broker.host}:{broker.port}//") as connection:
        exchange = kombu.Exchange(name, "fanout", durable=False, auto_delete=True)
        seen = {}
        queues = [kombu.Queue(f"{name}.{n}", exchange, auto_delete=True, durable=False, expires=10.0, message_ttl=5.0)
                  for n in range(3)]
        consumers = [connection.Consumer(queue, callbacks=[lambda body, message, q=queue: (
            seen.setdefault(q.name, body), message.ack())], channel=connection.channel()) for queue in queues]
        for consumer in consumers:
            consumer.consume()
        connection.Producer().publish({"method": "ping"}, exchange=exchange, delivery_mode=1)
        while len(seen) < 3:
            connection.drain_events(timeout=5)
        assert set(seen.values().__iter__().__next__()) == {"method"}
        assert set(seen) == {queue.name for queue in queues}
        for consumer in consumers:
            consumer.cancel()


def test_aio_pika_publishes_with_confirms_and_iterates(broker, name):
    async def talk():
        connection = await aio_pika.connect(host=broker.host, port=broker.port, login="guest", password="guest")
        async with connection:
            channel = await connection.channel(publisher_confirms=True)
            await channel.set_qos(prefetch_count=10)
            exchange = await channel.declare_exchange(name + ".x", aio_pika.ExchangeType.TOPIC, auto_delete=True)
            queue = await channel.declare_queue(name, exclusive=True)
            await queue.bind(exchange, "orders.*")
            await asyncio.gather(*(exchange.publish(
                aio_pika.Message(b"%d" % n, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "orders.new")
                for n in range(100)))
            seen = []
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        seen.append(int(message.body))
                    if len(seen) == 100:
                        break
            return seen

    assert sorted(asyncio.run(asyncio.wait_for(talk(), 20))) == list(range(100))


def test_aio_pika_hears_of_an_unroutable_message(broker, name):
    async def talk():
        connection = await aio_pika.connect(host=broker.host, port=broker.port)
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            with pytest.raises(aio_pika.exceptions.PublishError):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), name, mandatory=True)

    asyncio.run(asyncio.wait_for(talk(), 20))


def test_aio_pika_rpc(broker):
    from aio_pika.patterns import RPC

    async def talk():
        connection = await aio_pika.connect(host=broker.host, port=broker.port)
        async with connection:
            rpc = await RPC.create(await connection.channel())

            async def multiply(x, y):
                return x * y

            await rpc.register("multiply", multiply, auto_delete=True)
            return [await rpc.proxy.multiply(x=n, y=n) for n in range(10)]

    assert asyncio.run(asyncio.wait_for(talk(), 20)) == [n * n for n in range(10)]


@pytest.mark.ours
def test_amqps_with_a_client_certificate_and_without(start_server, tmp_path):
    """TLS on its own listener; a second one demands a certificate of our authority."""
    from harness.ports import free_ports

    authority = trustme.CA()
    certificate, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("client")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    plain, tls, mutual = free_ports(3)
    files = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    start_server(listen={"amqp": [
        f"127.0.0.1:{plain}", {"address": f"127.0.0.1:{tls}", "tls": files},
        {"address": f"127.0.0.1:{mutual}", "tls": dict(files, client_ca=str(tmp_path / "ca.pem"))}]})

    def channel(port, with_certificate=False):
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if with_certificate:
            context.load_cert_chain(tmp_path / "client.pem")
        options = pika.SSLOptions(context, "localhost")
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, ssl_options=options)).channel()

    for over in (channel(tls), channel(mutual, with_certificate=True)):
        queue = over.queue_declare("", exclusive=True).method.queue
        over.confirm_delivery()
        body = b"x" * 200_000
        over.basic_publish("", queue, body)
        assert Collector(over, queue, auto_ack=True).wait(1).bodies == [body]
        over.connection.close()
    with pytest.raises((pika.exceptions.AMQPConnectionError, ssl.SSLError, OSError)):
        channel(mutual)
