"""A private RabbitMQ (Debian's package) with our definitions, to check the tests themselves against.

`python tools/conformance/harness/oracle.py [pytest arguments]` starts it, runs amqp/ and celery_app/ against it, stops it.
Nothing here touches a system installation: own node name, folders, ports and epmd.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness.definitions import definitions  # noqa: E402
from harness.ports import free_ports  # noqa: E402
from harness.wait import until  # noqa: E402

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def greets(port):
    """True once the port answers the AMQP protocol header with connection.start."""
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.sendall(b"AMQP\x00\x00\x09\x01")
            return s.recv(1) == b"\x01"
    return False


@contextlib.contextmanager
def rabbitmq():
    """Yields the amqp:// address of a running RabbitMQ."""
    port, dist, epmd = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        root = pathlib.Path(folder)
        (root / "definitions.json").write_text(json.dumps(definitions()))
        (root / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {root}/definitions.json\nlog.console = false\n")
        (root / "plugins").write_text("[].\n")
        env = dict(
            os.environ, HOME=folder, RABBITMQ_NODENAME=f"oracle{os.getpid()}@localhost",
            RABBITMQ_MNESIA_BASE=f"{folder}/mnesia", RABBITMQ_LOG_BASE=f"{folder}/log",
            RABBITMQ_CONFIG_FILE=f"{folder}/rabbitmq.conf", RABBITMQ_ENABLED_PLUGINS_FILE=f"{folder}/plugins",
            RABBITMQ_PID_FILE=f"{folder}/pid", RABBITMQ_DIST_PORT=str(dist), ERL_EPMD_PORT=str(epmd),
            RABBITMQ_CONF_ENV_FILE="/dev/null", LC_ALL="C.UTF-8",
        )
        process = subprocess.Popen([SERVER], env=env, cwd=folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            until(lambda: process.poll() is not None or greets(port), "RabbitMQ accepts AMQP", 60, 0.2)
            assert process.poll() is None, "RabbitMQ did not start"
            yield f"amqp://guest:guest@127.0.0.1:{port}/%2F"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            subprocess.run(["epmd", "-port", str(epmd), "-kill"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that RabbitMQ is stopped with us
    here = pathlib.Path(__file__).resolve().parent.parent
    arguments = sys.argv[1:] or [str(here / "amqp"), str(here / "celery_app")]
    with rabbitmq() as address:
        print(f"oracle: {address}", flush=True)
        if arguments == ["--serve"]:
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            return 0
        env = dict(os.environ, SLUICEGATE_ORACLE=address)
        return subprocess.run([sys.executable, "-m", "pytest", "-c", str(here / "pytest.ini"), *arguments],
                              env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
