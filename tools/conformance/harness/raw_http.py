"""HTTP/1.1 as bytes, for what no client would send."""

import re
import socket
import time


def until_closed(port, payload, within_s=5, half_close=False):
    """Sends the bytes and reads until the server closes; fails if it does not."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as s:
        came, deadline = b"", time.monotonic() + within_s
        try:
            s.sendall(payload)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            while piece := s.recv(65536):
                came += piece
                assert time.monotonic() < deadline
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            raise AssertionError(f"the connection was not closed; got {came[:300]!r}") from None
        return came


def statuses(came):
    """Of all answers, also of those right behind a body, which need not end with a line."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", came)]
