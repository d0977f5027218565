"""What survives a restart and a kill -9: durable queues, exchanges, bindings, persistent messages and their properties,
their order, their redelivered flag; and nothing else."""

import base64
import json
import urllib.request

import pika
import pika.exceptions
import pytest

from harness.broker import PERSISTENT, bodies, depth, get, publish, wait_depth

pytestmark = pytest.mark.ours
TRANSIENT = pika.BasicProperties(delivery_mode=1)


def channel(server):
    connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
    return connection.channel()


def management(server, path):
    request = urllib.request.Request(server.url("management", path))
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def restart(server, how):
    if how == "kill":
        server.kill()
        server.start()
    else:
        server.restart()


def missing(server, kind, name):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        getattr(channel(server), f"{kind}_declare")(name, passive=True)
    return caught.value.reply_code == 404


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_durable_world_survives(start_server, how):
    server = start_server()
    ch = channel(server)
    ch.exchange_declare("keep.x", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    ch.exchange_declare("keep.y", "fanout", durable=True)
    ch.exchange_declare("lose.x", "topic")
    ch.queue_declare("keep.q", durable=True, arguments={"x-max-priority": 3, "x-message-ttl": 600000})
    ch.queue_declare("lose.q")
    ch.queue_declare("gone.q", durable=True)
    ch.exchange_bind("keep.y", "keep.x", "a.#")
    ch.queue_bind("keep.q", "keep.y")
    ch.queue_delete("gone.q")
    ch.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2, priority=2, headers={"n": 1}, message_id="id", expiration="500000")
    publish(ch, "a.b", b"persistent", exchange="keep.x", properties=properties)
    publish(ch, "keep.q", b"transient", properties=TRANSIENT)
    restart(server, how)
    ch = channel(server)
    assert depth(ch, "keep.q") == 1
    _, came, body = ch.basic_get("keep.q", auto_ack=True)
    assert (body, came.priority, came.headers, came.message_id, came.expiration) == (
        b"persistent", 2, {"n": 1}, "id", "500000")
    ch.confirm_delivery()
    ch.basic_publish("keep.x", "a.again", b"still bound", PERSISTENT, mandatory=True)
    assert bodies(ch, "keep.q") == [b"still bound"]
    ch.queue_declare("keep.q", durable=True, arguments={"x-max-priority": 3, "x-message-ttl": 600000})
    assert missing(server, "queue", "lose.q")
    assert missing(server, "queue", "gone.q")
    assert missing(server, "exchange", "lose.x")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_order_settles_and_redelivery_survive(start_server, how):
    server = start_server()
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.confirm_delivery()
    publish(ch, "q", *[b"%d" % n for n in range(300)], properties=PERSISTENT)
    tags = [ch.basic_get("q")[0].delivery_tag for _ in range(100)]
    for tag in tags[:50]:
        ch.basic_ack(tag)
    ch.connection.close()
    ch = channel(server)
    wait_depth(ch, "q", 250)
    restart(server, how)
    ch = channel(server)
    got = []
    while (answer := ch.basic_get("q", auto_ack=True))[0] is not None:
        got.append((int(answer[2]), answer[0].redelivered))
    numbers = [number for number, _ in got]
    assert numbers == sorted(numbers), "out of order after a restart"
    assert set(range(50, 300)) <= set(numbers), "lost after a restart"
    if how == "stop":
        assert numbers == list(range(50, 300)), "an acked message came back after a clean stop"
        assert [n for n, redelivered in got if redelivered] == list(range(50, 100))


def test_purged_expired_and_rejected_messages_do_not_come_back(start_server):
    server = start_server()
    ch = channel(server)
    ch.queue_declare("purged", durable=True)
    ch.queue_declare("rejected", durable=True, arguments={"x-dead-letter-exchange": "",
                                                          "x-dead-letter-routing-key": "dead"})
    ch.queue_declare("dead", durable=True)
    ch.confirm_delivery()
    publish(ch, "purged", b"1", b"2", properties=PERSISTENT)
    publish(ch, "rejected", b"3", properties=PERSISTENT)
    ch.queue_purge("purged")
    ch.basic_reject(get(ch, "rejected", auto_ack=False)[0].delivery_tag, requeue=False)
    wait_depth(ch, "dead", 1)
    server.restart()
    ch = channel(server)
    assert (depth(ch, "purged"), depth(ch, "rejected")) == (0, 0)
    _, properties, body = get(ch, "dead")
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"3", "rejected")


def test_a_ttl_runs_on_while_the_server_is_down(start_server):
    server = start_server()
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.confirm_delivery()
    ch.basic_publish("", "q", b"short", pika.BasicProperties(delivery_mode=2, expiration="300"))
    ch.basic_publish("", "q", b"long", pika.BasicProperties(delivery_mode=2, expiration="600000"))
    server.kill()
    import time
    time.sleep(0.4)
    server.start()
    ch = channel(server)
    wait_depth(ch, "q", 1)
    assert bodies(ch, "q") == [b"long"]


def test_one_body_in_many_queues_survives_until_the_last_is_settled(start_server):
    server = start_server()
    ch = channel(server)
    ch.exchange_declare("all", "fanout", durable=True)
    queues = [f"copy{n}" for n in range(10)]
    for queue in queues:
        ch.queue_declare(queue, durable=True)
        ch.queue_bind(queue, "all")
    ch.confirm_delivery()
    body = b"x" * 100_000
    ch.basic_publish("all", "", body, PERSISTENT)
    for queue in queues[:-1]:
        assert ch.basic_get(queue, auto_ack=True)[2] == body
    server.restart()
    ch = channel(server)
    assert [depth(ch, queue) for queue in queues] == [0] * 9 + [1]
    assert get(ch, "copy9")[2] == body


def test_space_is_reclaimed_when_messages_are_settled(start_server):
    """60 MB go through a durable queue that is never longer than 2 MB; the directory must not keep them."""
    server = start_server()
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.confirm_delivery()
    body = b"z" * 200_000
    for _ in range(30):
        publish(ch, "q", *[body] * 10, properties=PERSISTENT)
        assert len(bodies(ch, "q")) == 10
    from harness.wait import until

    def used_mib():
        return sum(f.stat().st_blocks * 512 for f in server.data.rglob("*") if f.is_file()) / 2**20

    until(lambda: used_mib() < 50, "the data directory is smaller than what went through it", 10, 0.1)
    print(f"60 MB through, {used_mib():.1f} MiB kept")


def test_a_backlog_is_on_disk_and_not_in_memory(start_server):
    """300 MB waiting in a queue; memory stays bounded, and every byte comes back in order after a restart."""
    server = start_server()
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    ch.confirm_delivery()
    import threading

    def fill(part):
        mine = channel(server)
        mine.confirm_delivery()
        for n in range(part, 3000, 4):
            mine.basic_publish("", "q", b"%06d" % n + b"." * 100_000, PERSISTENT)
        mine.connection.close()

    threads = [threading.Thread(target=fill, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert depth(ch, "q") == 3000
    rss = server.rss_kib() / 1024
    print(f"300 MB waiting, {rss:.0f} MiB resident")
    assert rss < 200, "the backlog is in memory"
    ch.connection.close()
    server.restart()
    ch = channel(server)
    last = [-1] * 4
    seen = 0
    while (answer := ch.basic_get("q", auto_ack=True))[0] is not None:
        number = int(answer[2][:6])
        assert number > last[number % 4], "out of order for one publisher"
        last[number % 4] = number
        seen += 1
    assert seen == 3000


@pytest.mark.parametrize("durability, kept", [("interval", True), ("none", True), ("memory", False)])
def test_a_queue_can_promise_less_and_says_so(start_server, durability, kept):
    server = start_server()
    ch = channel(server)
    ch.queue_declare("less", durable=True, arguments={"x-durability": durability})
    ch.queue_declare("full", durable=True)
    ch.confirm_delivery()
    publish(ch, "less", b"1", properties=PERSISTENT)
    shown = {queue["name"]: queue["durability"] for queue in management(server, "/api/queues")}
    assert (shown["less"], shown["full"]) == (durability, "sync")
    restart(server, "stop")
    ch = channel(server)
    assert bodies(ch, "less") == ([b"1"] if kept else [])


def test_what_is_synced_within_an_interval_survives_a_kill(start_server):
    server = start_server()
    ch = channel(server)
    ch.queue_declare("less", durable=True, arguments={"x-durability": "interval"})
    ch.queue_declare("full", durable=True)
    ch.confirm_delivery()
    publish(ch, "less", b"1", properties=PERSISTENT)
    publish(ch, "full", b"2", properties=PERSISTENT)
    restart(server, "kill")
    assert bodies(channel(server), "less") == [b"1"], "the confirm of the second covers everything before it"
