"""gRPC through the gateway: a real grpcio client and server, unary and streaming, over plain HTTP/2 and over TLS; what a
route of gRPC says to others; and HTTP/2 upstreams that refuse, go away or die."""

import concurrent.futures
import contextlib
import os
import socket
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import pytest
import trustme

from harness.http_client import request
from harness.ports import free_ports
from harness.server import Server

pytestmark = pytest.mark.ours

LARGE = 3 << 20


class Service:
    """Methods over bytes, without a schema. Keeps what it saw."""

    def __init__(self):
        self.metadata, self.cancelled, self.open = [], threading.Event(), 0

    def unary(self, message, context):
        self.metadata = context.invocation_metadata()
        context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-bin", b"\x00\xff")))
        return message

    def fail(self, message, context):
        context.set_trailing_metadata((("x-why", "because"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now, déjà vu 100%")

    def slow(self, message, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(20)
        self.cancelled.set()
        return message

    def split(self, message, context):
        for n in range(int(message)):
            yield str(n).encode()

    def flood(self, message, context):
        piece = b"f" * 65536
        for _ in range(int(message)):
            yield piece

    def join(self, messages, context):
        return b" ".join(messages)

    def chat(self, messages, context):
        for message in messages:
            yield b"re: " + message

    def fail_late(self, message, context):
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "half of it")


METHODS = {"Unary": ("unary", grpc.unary_unary_rpc_method_handler), "Fail": ("fail", grpc.unary_unary_rpc_method_handler),
           "Slow": ("slow", grpc.unary_unary_rpc_method_handler), "Split": ("split", grpc.unary_stream_rpc_method_handler),
           "Flood": ("flood", grpc.unary_stream_rpc_method_handler),
           "FailLate": ("fail_late", grpc.unary_stream_rpc_method_handler),
           "Join": ("join", grpc.stream_unary_rpc_method_handler), "Chat": ("chat", grpc.stream_stream_rpc_method_handler)}
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@contextlib.contextmanager
def grpc_server(credentials=None, streams_max=None):
    service = Service()
    options = OPTIONS + ((("grpc.max_concurrent_streams", streams_max),) if streams_max else ())
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=160), options=options)
    handlers = {name: make(getattr(service, attribute)) for name, (attribute, make) in METHODS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    if credentials is None:
        service.port = server.add_insecure_port("127.0.0.1:0")
    else:
        service.port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield service
    server.stop(0).wait(5)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpc")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    key = certificate.private_key_pem.bytes()
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    plain, tls = free_ports(2)
    with grpc_server() as service, grpc_server(grpc.ssl_server_credentials([(key, chain)])) as secure, \
            grpc_server(streams_max=4) as narrow:
        server = Server(folder / "server", {"services": [
            {"name": "echo", "protocol": "grpc", "host": "127.0.0.1", "port": service.port, "routes": [
                {"name": "echo", "protocols": ["grpc", "grpcs"], "paths": ["/test.Echo/"], "strip_path": False},
                {"name": "only-tls", "protocols": ["grpcs"], "hosts": ["only-tls.example"], "strip_path": False},
                {"name": "guarded", "protocols": ["grpc"], "hosts": ["guarded.example"], "strip_path": False,
                 "plugins": [{"name": "key-auth"}]}]},
            {"name": "impatient", "protocol": "grpc", "host": "127.0.0.1", "port": service.port, "read_timeout": 500,
             "retries": 0, "routes": [{"name": "impatient", "protocols": ["grpc"], "hosts": ["impatient.example"],
                                       "strip_path": False}]},
            # Kong has the fields that check a certificate for `https` only.
            {"name": "secure", "protocol": "grpcs", "host": "127.0.0.1", "port": secure.port, "routes": [
                {"name": "secure", "protocols": ["grpc"], "hosts": ["secure.example"], "strip_path": False}]},
            {"name": "narrow", "protocol": "grpc", "host": "127.0.0.1", "port": narrow.port, "routes": [
                {"name": "narrow", "protocols": ["grpc"], "hosts": ["narrow.example"], "strip_path": False}]},
            {"name": "dead", "protocol": "grpc", "host": "127.0.0.1", "port": free_ports(1)[0], "routes": [
                {"name": "dead", "protocols": ["grpc"], "hosts": ["dead.example"], "strip_path": False}]},
        ], "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "ann-key"}]}]}, listen={
            "http": [f"127.0.0.1:{plain}", {"address": f"127.0.0.1:{tls}", "tls": {
                "cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}}]})
        server.ports.update(http=plain, tls=tls)
        server.service, server.secure, server.narrow = service, secure, narrow
        server.authority = authority.cert_pem.bytes()
        server.start()
        yield server
        server.close()


@contextlib.contextmanager
def channel_to(gateway, host=None, tls=False):
    options = OPTIONS + ((("grpc.default_authority", host),) if host else ())
    if tls:
        credentials = grpc.ssl_channel_credentials(gateway.authority)
        options += (("grpc.ssl_target_name_override", "localhost"),)
        channel = grpc.secure_channel(f"127.0.0.1:{gateway.ports['tls']}", credentials, options)
    else:
        channel = grpc.insecure_channel(f"127.0.0.1:{gateway.ports['http']}", options)
    with channel:
        yield channel


@pytest.fixture(params=["plain", "tls"])
def channel(request, gateway):
    with channel_to(gateway, tls=request.param == "tls") as channel:
        yield channel


# --- the four kinds of call ------------------------------------------------------------------------------------------------

def test_unary_with_metadata_both_ways(gateway, channel):
    answer, call = channel.unary_unary("/test.Echo/Unary").with_call(
        b"hello", metadata=(("x-mine", "1"), ("x-mine-bin", b"\x01\xfe")), timeout=10)
    assert answer == b"hello"
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert initial["x-initial"] == "1" and initial["via"].startswith("1.1 ") and len(initial["x-kong-request-id"]) == 32
    assert (trailing["x-trailing"], trailing["x-bin"]) == ("2", b"\x00\xff")
    seen = dict(gateway.service.metadata)
    assert (seen["x-mine"], seen["x-mine-bin"], seen["x-forwarded-for"]) == ("1", b"\x01\xfe", "127.0.0.1")


def test_streaming_down(channel):
    assert [int(piece) for piece in channel.unary_stream("/test.Echo/Split")(b"500", timeout=20)] == list(range(500))


def test_streaming_up(channel):
    words = [str(n).encode() for n in range(500)]
    assert channel.stream_unary("/test.Echo/Join")(iter(words), timeout=20) == b" ".join(words)


def test_streaming_both_ways_in_turns(channel):
    waiting, said = threading.Semaphore(0), []

    def messages():
        for n in range(100):
            said.append(n)
            yield str(n).encode()
            waiting.acquire()

    for n, answer in enumerate(channel.stream_stream("/test.Echo/Chat")(messages(), timeout=20)):
        assert answer == b"re: %d" % n and said[-1] == n
        waiting.release()
    assert n == 99


def test_large_messages(channel):
    message = os.urandom(LARGE)
    assert channel.unary_unary("/test.Echo/Unary")(message, timeout=30) == message


def test_errors_pass_with_their_words_and_trailers(channel):
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/test.Echo/Fail")(b"x", timeout=10)
    assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "not now, déjà vu 100%"
    assert dict(failed.value.trailing_metadata())["x-why"] == "because"
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/test.Echo/Nothing")(b"x", timeout=10)
    assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_error_behind_messages(channel):
    came = []
    with pytest.raises(grpc.RpcError) as failed:
        for piece in channel.unary_stream("/test.Echo/FailLate")(b"x", timeout=10):
            came.append(piece)
    assert came == [b"one"]
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.DATA_LOSS, "half of it")


def test_deadlines_and_cancellation_reach_the_upstream(gateway, channel):
    gateway.service.cancelled.clear()
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/test.Echo/Slow")(b"x", timeout=0.3)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert gateway.service.cancelled.wait(5)
    gateway.service.cancelled.clear()
    call = channel.unary_unary("/test.Echo/Slow").future(b"x")
    time.sleep(0.3)
    call.cancel()
    assert gateway.service.cancelled.wait(5)


def test_a_hundred_streams_at_once(gateway, channel):
    begun, go_on = threading.Barrier(101, timeout=30), threading.Event()

    def one(n):
        def messages():
            yield b"%d" % n
            go_on.wait(30)
            yield b"end"

        answers = channel.stream_stream("/test.Echo/Chat")(messages(), timeout=60)
        first = next(answers)
        begun.wait()
        return [first, *answers]

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        results = [pool.submit(one, n) for n in range(100)]
        begun.wait()
        go_on.set()
        assert [result.result(30) for result in results] == [[b"re: %d" % n, b"re: end"] for n in range(100)]


def test_a_client_that_does_not_read_holds_the_upstream_back(gateway):
    with channel_to(gateway) as channel:
        before = gateway.rss_kib()
        stream = channel.unary_stream("/test.Echo/Flood")(b"2000", timeout=60)
        next(stream)
        time.sleep(1.0)
        grown = gateway.rss_kib() - before
        print(f"125 MB waiting: {grown} KiB more")
        assert grown < 24_000
        assert sum(len(piece) for piece in stream) == 1999 * 65536


# --- other upstreams ---------------------------------------------------------------------------------------------------------

def test_over_tls_to_the_upstream(gateway):
    with channel_to(gateway, "secure.example") as channel:
        assert channel.unary_unary("/test.Echo/Unary")(b"hello", timeout=10) == b"hello"


def test_an_upstream_that_allows_few_streams_gets_more_connections(gateway):
    begun = threading.Barrier(21, timeout=30)
    with channel_to(gateway, "narrow.example") as channel:
        def one(n):
            def messages():
                yield b"%d" % n
                begun.wait()

            return list(channel.stream_stream("/test.Echo/Chat")(messages(), timeout=60))

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            results = [pool.submit(one, n) for n in range(20)]
            begun.wait()
            assert [result.result(30) for result in results] == [[b"re: %d" % n] for n in range(20)]


def test_failures_of_the_gateway_are_grpc_s(gateway):
    def failure(host, method="Unary", **metadata):
        with channel_to(gateway, host) as channel, pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(f"/test.Echo/{method}")(b"x", timeout=10, metadata=tuple(metadata.items()))
        return failed.value.code(), failed.value.details()

    assert failure("dead.example") == (
        grpc.StatusCode.INTERNAL, "An invalid response was received from the upstream server")
    assert failure("impatient.example", "Slow") == (
        grpc.StatusCode.DEADLINE_EXCEEDED, "The upstream server is timing out")
    assert failure("guarded.example") == (grpc.StatusCode.UNAUTHENTICATED, "No API key found in request")
    assert failure("only-tls.example") == (grpc.StatusCode.CANCELLED, "gRPC request matched gRPCs route")
    with channel_to(gateway) as channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/other.Service/Unary")(b"x", timeout=10)
    assert (failed.value.code(), failed.value.details()) == (
        grpc.StatusCode.NOT_FOUND, "no Route matched with those values")
    with channel_to(gateway, "guarded.example") as channel:
        assert channel.unary_unary("/test.Echo/Unary")(b"x", timeout=10, metadata=(("apikey", "ann-key"),)) == b"x"


def test_what_is_not_grpc_is_refused_on_its_routes(gateway):
    answer = request(gateway.ports["http"], "POST", "/test.Echo/Unary", b"", {"Content-Type": "application/grpc"})
    assert (answer.status, answer.headers["Upgrade"], answer.headers["grpc-message"]) == (
        426, "HTTP/2", "Please use HTTP2 protocol")
    answer = request(gateway.ports["http"], "GET", "/test.Echo/Unary")
    assert (answer.status, answer.json["message"]) == (426, "Please use HTTP2 protocol")
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.post(f"http://127.0.0.1:{gateway.ports['http']}/test.Echo/Unary", json={})
    assert (answer.status_code, answer.json()["message"]) == (415, "Non-gRPC request matched gRPC route")


# --- an upstream that is scripted ----------------------------------------------------------------------------------------------

class Scripted:
    """An HTTP/2 server that does with each request what `script` says next; answers when there is nothing more."""

    def __init__(self, *script, streams_max=100):
        self.script, self.seen, self.connections, self.streams_max = list(script), 0, 0, streams_max
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, peer):
        self.connections += 1
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        conn.initiate_connection()
        with peer, contextlib.suppress(OSError):
            peer.sendall(conn.data_to_send())
            while data := peer.recv(65536):
                for event in conn.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self.seen += 1
                        step = self.script.pop(0) if self.script else "answer"
                        if step == "refuse":
                            conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
                        elif step == "go away":
                            conn.close_connection(h2.errors.ErrorCodes.NO_ERROR, last_stream_id=event.stream_id - 2
                                                  if event.stream_id > 1 else 0)
                            peer.sendall(conn.data_to_send())
                            return
                        elif step == "die":
                            return
                        elif step == "reset":
                            conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                        else:
                            conn.send_headers(event.stream_id, [
                                (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")],
                                end_stream=True)
                peer.sendall(conn.data_to_send())


def scripted_server(start_server, upstream, **service):
    return start_server({"services": [{"name": "s", "protocol": "grpc", "host": "127.0.0.1", "port": upstream.port,
                                       **service, "routes": [
        {"name": "s", "protocols": ["grpc"], "paths": ["/"], "strip_path": False}]}]})


def ask_empty(server, method="POST"):
    """A request of an empty message. A GET has no body at all, so it may be sent again."""
    with httpx.Client(http1=False, http2=True) as client:
        return client.request(method, f"http://127.0.0.1:{server.ports['http']}/x.Y/Z", headers={
            "Content-Type": "application/grpc", "TE": "trailers"}, timeout=10)


@pytest.mark.parametrize("step", ["refuse", "go away"])
def test_what_was_not_processed_is_sent_again(start_server, step):
    upstream = Scripted("answer", step)
    server = scripted_server(start_server, upstream)
    for _ in range(3):
        answer = ask_empty(server, "GET")
        assert (answer.status_code, answer.headers["grpc-status"]) == (200, "0")
    assert upstream.seen == 4


@pytest.mark.parametrize("step", ["die", "reset"])
def test_what_may_have_been_processed_is_not(start_server, step):
    upstream = Scripted("answer", step)
    server = scripted_server(start_server, upstream)
    assert ask_empty(server).headers["grpc-status"] == "0"
    answer = ask_empty(server)
    assert (answer.status_code, answer.headers["grpc-status"]) == (502, "13")
    assert upstream.seen == 2
    assert ask_empty(server).headers["grpc-status"] == "0"


def test_requests_share_a_connection(start_server):
    upstream = Scripted()
    server = scripted_server(start_server, upstream)
    with httpx.Client(http1=False, http2=True) as client:
        for _ in range(50):
            answer = client.post(f"http://127.0.0.1:{server.ports['http']}/x.Y/Z", headers={
                "Content-Type": "application/grpc"}, timeout=10)
            assert answer.headers["grpc-status"] == "0"
    assert (upstream.seen, upstream.connections) == (50, 1)
