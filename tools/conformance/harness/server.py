"""One sluicegate process under test: start with a generated config, wait until ready, reload, kill, look at its resources.

A server that is stopped must have been alive, must exit 0 on SIGTERM and must not have printed a panic; `stop` checks
all three, so every test that uses a server also tests that.
"""

import ctypes
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import time
import urllib.error
import urllib.request

from harness.definitions import definitions
from harness.ports import free_ports
from harness.wait import until

LISTENERS = ("http", "amqp", "admin", "management")


def binary():
    """The binary under test, from SLUICEGATE_BIN."""
    path = os.environ.get("SLUICEGATE_BIN")
    if not path:
        raise RuntimeError("set SLUICEGATE_BIN to the sluicegate binary (or SLUICEGATE_ORACLE=amqp://… for amqp/ only)")
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"SLUICEGATE_BIN={path} is not an executable file")
    return str(pathlib.Path(path).resolve())


PR_SET_CHILD_SUBREAPER = 36


class Successor:
    """A process that another one has started, as far as `Server` uses a Popen. It becomes ours when its parent ends."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return None if os.path.exists(f"/proc/{self.pid}") else -1
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout):
        until(lambda: self.poll() is not None, f"process {self.pid} ends", timeout)
        return self.returncode


class Server:
    """A process with its own folder. `config` is a dict merged over the listeners; `text` replaces the file entirely."""

    def __init__(self, folder, config=None, bin_path=None, with_definitions=True, env=None, listen=None, wait_s=15.0):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.file = self.folder / "sluicegate.yaml"
        self.stderr_file = self.folder / "stderr.log"
        self.bin = bin_path or binary()
        self.env = dict(os.environ, **(env or {}))
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS))))
        self.listen = {name: [f"127.0.0.1:{port}"] for name, port in self.ports.items()}
        self.listen.update(listen or {})
        self.with_definitions = with_definitions
        self.wait_s = wait_s
        self.process = None
        self.started_in_ms = None
        self.write_config(config or {})

    # --- configuration -------------------------------------------------------------------------------------------

    def write_config(self, config):
        """Writes the file atomically. JSON is YAML, so what is generated is JSON."""
        document = {"_format_version": "3.0", "listen": self.listen}
        if self.with_definitions:
            document["broker"] = {"definitions": definitions()}
        document.update(config)
        self.write_text(json.dumps(document, indent=1))

    def write_text(self, text):
        staged = self.file.with_suffix(".staged")
        staged.write_text(text)
        staged.replace(self.file)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def take_over(self, config):
        """Reloads with this configuration and waits until it is in force."""
        said = "configuration reloaded"
        before = self.stderr().count(said)
        self.write_config(config)
        self.reload()
        until(lambda: self.stderr().count(said) > before, "the reload is done", 30)

    def upgrade(self):
        """SIGUSR2: another process takes over. Returns the one before, which may still have connections."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        before, said = self.process, re.compile(r"upgrade: process (\d+) has taken over")
        n_before = len(said.findall(self.stderr()))
        before.send_signal(signal.SIGUSR2)
        until(lambda: len(said.findall(self.stderr())) > n_before, "another process takes over", 30)
        self.process = Successor(int(said.findall(self.stderr())[-1]))
        return before

    # --- life ----------------------------------------------------------------------------------------------------

    def spawn(self, preexec=None):
        """Starts the process without waiting for readiness."""
        with open(self.stderr_file, "ab") as err, open(self.folder / "stdout.log", "ab") as out:
            self.process = subprocess.Popen(
                [self.bin, "run", str(self.file), "--data", str(self.data)],
                stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=self.env, cwd=self.folder,
                preexec_fn=preexec,
            )
        return self

    def start(self, preexec=None):
        began = time.monotonic()
        self.spawn(preexec)
        until(self.ready_or_dead, "GET /status/ready answers 200", self.wait_s, every_s=0.005)
        assert self.process.poll() is None, f"exited with {self.process.returncode} before ready:\n{self.stderr()}"
        self.started_in_ms = (time.monotonic() - began) * 1000
        return self

    def ready_or_dead(self):
        return self.process.poll() is not None or self.ready()

    def ready(self):
        try:
            with urllib.request.urlopen(self.url("admin", "/status/ready"), timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9; the data directory stays as it is."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def stop(self, timeout_s=20):
        """SIGTERM, then the three checks every server must pass."""
        try:
            assert self.alive(), f"the server died on its own ({self.process.returncode}):\n{self.stderr()[-4000:]}"
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(timeout=timeout_s)
            assert code == 0, f"exit code {code} on SIGTERM:\n{self.stderr()[-4000:]}"
        finally:
            if self.alive():
                self.kill()
        self.check_no_panic()

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """For teardown: stop if it runs, and check the log in any case."""
        if self.alive():
            self.stop()
        else:
            self.check_no_panic()

    def check_no_panic(self):
        text = self.stderr()
        assert "panicked" not in text, f"the server panicked:\n{text[-6000:]}"

    def wait_exit(self, timeout_s=15):
        return self.process.wait(timeout=timeout_s)

    # --- looking at it -------------------------------------------------------------------------------------------

    def stderr(self):
        return self.stderr_file.read_text(errors="replace") if self.stderr_file.exists() else ""

    def url(self, listener, path="/"):
        return f"http://127.0.0.1:{self.ports[listener]}{path}"

    def amqp_url(self, user="guest", password="guest", vhost="%2F"):
        return f"amqp://{user}:{password}@127.0.0.1:{self.ports['amqp']}/{vhost}"

    def rss_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def run_cli(*args, timeout_s=15, env=None, cwd=None):
    """Runs the binary with arguments and returns the finished process, text captured."""
    return subprocess.run([binary(), *map(str, args)], capture_output=True, text=True, timeout=timeout_s, cwd=cwd,
                          env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL)


def limit_file_size(size):
    """A preexec function: no file of the child may grow beyond `size` bytes; writes past it fail instead of killing."""

    def apply():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return apply
