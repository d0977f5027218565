"""The smuggling corpus: every case is sent by the byte, and the upstream keeps every byte it is sent.

Two counts must be 0: cases of which anything reached the upstream that could be read in two ways, and cases whose smuggled
request did. A case that has one meaning must come through, so that refusing everything does not pass.
"""


import pytest

from harness.h2_raw import converse
from harness.http_client import request
from harness.raw_http import statuses, until_closed
from harness.recorder import Ambiguous, Recorder, read_one
from harness.server import Server
from hostile import corpus_http1, corpus_http2

pytestmark = pytest.mark.ours
tally = {"cases": 0, "refused": 0, "forwarded once": 0, "ambiguous": 0, "smuggled": 0}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with Recorder() as upstream:
        server = Server(tmp_path_factory.mktemp("smuggling"), {"services": [
            {"name": "x", "url": upstream.url(), "retries": 0,
             "routes": [{"name": "x", "paths": ["/x"], "strip_path": False}]}]})
        server.upstream = upstream
        server.start()
        yield server
        assert request(server.ports["http"], "GET", "/x/good").status == 200
        server.close()
        total = len(corpus_http1.CASES) + len(corpus_http2.CASES)
        print(f"\nsmuggling corpus: {total} cases; ran {tally}")
        assert (tally["ambiguous"], tally["smuggled"]) == (0, 0)


def judge(gateway, name):
    """What the upstream got of the case; nothing of it may be ambiguous."""
    forwarded, ambiguous, raw = gateway.upstream.take()
    tally["cases"] += 1
    tally["ambiguous"] += bool(ambiguous)
    smuggled = sum(b"smuggled" in one.target for one in forwarded) + (b"/x/smuggled" in raw and not forwarded)
    assert not ambiguous, f"{name}: {ambiguous}"
    return forwarded, smuggled


def names(cases):
    return [name for name, *_ in cases]


def test_the_corpus_is_large_and_has_no_case_twice():
    for cases in (corpus_http1.CASES, corpus_http2.CASES):
        assert len(set(names(cases))) == len(cases)
    total = len(corpus_http1.CASES) + len(corpus_http2.CASES)
    print(f"{len(corpus_http1.CASES)} cases over HTTP/1.1 and {len(corpus_http2.CASES)} over HTTP/2")
    assert total >= 400


@pytest.mark.parametrize("name, payload, expected", corpus_http1.CASES, ids=names(corpus_http1.CASES))
def test_over_http_1(gateway, name, payload, expected):
    came = until_closed(gateway.ports["http"], payload + corpus_http1.TAIL)
    got = statuses(came)
    forwarded, smuggled = judge(gateway, name)
    if got and got[0] == 200:
        # It has one meaning, so what follows is a request of its own.
        assert 200 in expected, f"{name} was taken: {came[:300]!r}"
        assert got == [200, 200] and [one.target for one in forwarded] == [b"/x/y", b"/x/smuggled"], (got, forwarded)
        assert forwarded[0].body in (b"", b"hello"), forwarded
        tally["forwarded once"] += 1
        return
    tally["smuggled"] += smuggled
    assert not smuggled, f"{name}: {forwarded}"
    # A request that goes bad in its body may be on its way already; its answer is then an error or the connection's end.
    assert got == [] or (len(got) == 1 and got[0] in expected), f"{name}: {came[:500]!r}"
    assert got or b"chunked" in payload, f"{name}: no answer"
    assert not forwarded, f"{name}: {forwarded}"
    tally["refused"] += 1


@pytest.mark.parametrize("name, frames, is_forwarded", corpus_http2.CASES, ids=names(corpus_http2.CASES))
def test_over_http_2(gateway, name, frames, is_forwarded):
    outcome = converse(gateway.ports["http"], frames, within_s=3)
    forwarded, smuggled = judge(gateway, name)
    tally["smuggled"] += smuggled
    assert not smuggled, f"{name}: {forwarded}"
    assert len(forwarded) <= 1, forwarded
    if outcome.statuses.get(1) == 200:
        assert is_forwarded is not False, f"{name} was taken: {forwarded} {outcome}"
        assert len(forwarded) == 1 and forwarded[0].target == b"/x/y", forwarded
        tally["forwarded once"] += 1
        return
    assert not is_forwarded, f"{name}: {outcome}"
    assert not forwarded, f"{name}: {forwarded}"
    assert outcome.resets or outcome.closed or outcome.goaway is not None or outcome.statuses.get(1, 0) >= 400, outcome
    tally["refused"] += 1


@pytest.mark.parametrize("data", [
    b"GET /a HTTP/1.1\nHost: a\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", b"POST /a HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\na",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
])
def test_the_recorder_itself_takes_nothing_ambiguous(data):
    with pytest.raises(Ambiguous):
        read_one(data)
