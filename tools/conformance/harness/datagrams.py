"""Services and clients of UDP."""

import socket
import threading

# The longest datagram of IPv4.
LONGEST = 65507


def answer_datagrams(answer, at=("127.0.0.1", 0)):
    """A UDP service: what `answer(datagram)` returns, one datagram or a list of them, is sent back. Returns its socket, which
    has `heard`, all it got and from whom; closing it ends it."""
    serving = Serving(socket.AF_INET, socket.SOCK_DGRAM)
    serving.bind(at)
    serving.settimeout(0.2)

    def serve():
        while True:
            try:
                datagram, client = serving.recvfrom(65535)
            except TimeoutError:
                continue
            except OSError:
                return
            serving.heard.append((datagram, client))
            answers = answer(datagram)
            for each in answers if isinstance(answers, list) else [answers]:
                serving.sendto(each, client)

    serving.thread = threading.Thread(target=serve, daemon=True)
    serving.thread.start()
    return serving


class Serving(socket.socket):
    """See `answer_datagrams`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.heard = []

    def end(self):
        """Nobody listens there any more when this returns."""
        self.close()
        self.thread.join(5)


def client(port, ip="127.0.0.1", timeout_s=5, source=""):
    """A socket that sends to one address, and hears that one alone."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(timeout_s)
    made.bind((source, 0))
    made.connect((ip, port))
    return made


def ask(peer, what):
    """Sends a datagram and returns the next that comes, None if none does."""
    peer.send(what)
    try:
        return peer.recv(65535)
    except (TimeoutError, ConnectionRefusedError):
        return None
