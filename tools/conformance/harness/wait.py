"""Waiting for a condition with a deadline; the suite never sleeps for a fixed time and hopes."""

import time


def until(condition, what, timeout_s=10.0, every_s=0.01):
    """Calls `condition` until it returns something true and returns that; fails with `what` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s} s: {what} (last value: {value!r})")
        time.sleep(every_s)


def holds(condition, what, for_s=0.3, every_s=0.02):
    """The opposite: fails as soon as `condition` is false inside the window."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert condition(), f"did not hold: {what}"
        time.sleep(every_s)
