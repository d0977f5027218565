"""The public HTTP/2 suite h2spec (145 cases) against our listener, with prior knowledge and over TLS.

It is a Go program: `go install github.com/summerwind/h2spec/cmd/h2spec@latest`, in PATH or named by H2SPEC.
"""

import os
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree

import pytest

from harness.keys import tls_files
from harness.ports import free_ports
from harness.server import Server
from harness.upstream import Upstream

pytestmark = pytest.mark.ours
#: Cases that may fail on a listener, with the reason.
KNOWN = {"http": {"http2/3.5: Sends invalid connection preface":
                  "what does not begin with the preface is HTTP/1.1 there, and is answered 400 as that"},
         "tls": {}}


def h2spec():
    places = [os.environ.get("H2SPEC"), shutil.which("h2spec"), pathlib.Path.home() / "go/bin/h2spec"]
    found = [str(place) for place in places if place and os.access(place, os.X_OK)]
    if not found:
        pytest.skip("h2spec is not installed")
    return found[0]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h2spec")
    files = tls_files(folder, "127.0.0.1")
    plain, tls = free_ports(2)
    with Upstream() as upstream:
        server = Server(folder / "server", {"services": [
            {"name": "x", "url": upstream.url(), "routes": [{"name": "x", "paths": ["/x"]}]}]},
            listen={"http": [f"127.0.0.1:{plain}", {"address": f"127.0.0.1:{tls}", "tls": files}]})
        server.ports.update(http=plain, tls=tls)
        server.start()
        yield server
        server.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("listener, options", [("http", []), ("tls", ["-t", "-k"])])
def test_h2spec(gateway, tmp_path, listener, options):
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [h2spec(), "-h", "127.0.0.1", "-p", str(gateway.ports[listener]), "-P", "/x/", "-o", "5", "-j", str(report), *options],
        capture_output=True, text=True, timeout=220)
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary, done.stdout[-2000:] + done.stderr[-2000:]
    failed = set()
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.add(f"{case.get('package')}: {case.get('classname')}")
    print(f"h2spec on {listener}: {summary[0]}; failed: {sorted(failed)}")
    assert failed <= set(KNOWN[listener]), sorted(failed - set(KNOWN[listener]))
    assert int(summary[1]) >= 145
