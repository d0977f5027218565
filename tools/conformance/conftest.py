"""Fixtures of the whole suite. See README.md for how to run it."""

import os
import pathlib
import sys
import tempfile
import urllib.parse
import uuid

import pytest
from pika import spec

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness.amqp_raw import RawAmqp  # noqa: E402
from harness.broker import Broker  # noqa: E402
from harness.server import Server, binary  # noqa: E402

ORACLE = os.environ.get("SLUICEGATE_ORACLE")


def pytest_report_header():
    return f"under test: {ORACLE or os.environ.get('SLUICEGATE_BIN', 'nothing: set SLUICEGATE_BIN')}"


def pytest_sessionstart(session):
    """One clear line instead of an error a test."""
    if not ORACLE and not session.config.option.collectonly:
        try:
            binary()
        except RuntimeError as missing:
            pytest.exit(str(missing), returncode=2)


def pytest_collection_modifyitems(config, items):
    """Against an oracle only the pure AMQP tests are selected."""
    if not ORACLE:
        return
    ours = [item for item in items if item.get_closest_marker("ours")]
    if ours:
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


@pytest.fixture(scope="session")
def shared_server():
    """The one server of our own that the AMQP tests share; None when an oracle is tested."""
    if ORACLE:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        server = Server(folder)
        server.start()
        yield server
        server.close()


@pytest.fixture
def broker(shared_server):
    """A broker with the definitions of harness/definitions.py; connections made through it are closed after the test."""
    if ORACLE:
        address = urllib.parse.urlsplit(ORACLE)
        handle = Broker(address.hostname, address.port)
    else:
        if not shared_server.alive():
            # The test that killed it has failed for that; the others shall say what they have to say.
            shared_server.start()
        handle = Broker("127.0.0.1", shared_server.ports["amqp"])
    yield handle
    handle.close()
    if shared_server is not None:
        shared_server.check_no_panic()
        assert shared_server.alive(), f"the server died:\n{shared_server.stderr()[-4000:]}"
        still_serves(shared_server)


def still_serves(server):
    """A whole handshake in 5 s. A server that hangs is killed, so that the next test gets one that does not."""
    try:
        with RawAmqp("127.0.0.1", server.ports["amqp"], timeout_s=5) as raw:
            raw.handshake().open_channel(1)
            raw.send_method(1, spec.Queue.Declare(queue="", exclusive=True))
            raw.expect(spec.Queue.DeclareOk, 1)
    except (OSError, AssertionError) as failure:
        server.kill()
        raise AssertionError(f"the server does not serve any more after this test: {failure!r}") from None


@pytest.fixture
def connection(broker):
    return broker.connect()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def name():
    """A name no other test uses; give it a suffix for more than one."""
    return f"t.{uuid.uuid4().hex[:12]}"


@pytest.fixture
def channel_of():
    """Opens a channel, on a connection of its own, of a server that `start_server` made."""
    opened = []

    def channel(server):
        broker = Broker("127.0.0.1", server.ports["amqp"])
        opened.append(broker)
        return broker.channel()

    yield channel
    for broker in opened:
        broker.close()


@pytest.fixture
def start_server(tmp_path):
    """Makes servers with a config of their own; all are stopped and checked after the test."""
    made = []

    def start(config=None, **options):
        preexec = options.pop("preexec", None)
        folder = options.pop("folder", tmp_path / f"server{len(made)}")
        server = Server(folder, config, **options)
        made.append(server)
        return server.start(preexec)

    yield start
    failures = []
    for server in made:
        try:
            server.close()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)
