"""Draws what `bench reloads --json FILE` saw: memory and the time a reload takes, over the reloads.

    python plot_reloads.py reloads.json reloads.png
"""

import json
import sys

import panels

PANELS = [
    ("RSS, MiB", lambda sample: sample["rss_bytes"] / 1024 / 1024),
    ("until it took effect, ms", lambda sample: sample["took_ms"]),
]


def draw(reloads, picture):
    samples = reloads["samples"]
    title = (
        f"{len(samples):,} reloads under {reloads['rate_per_s']:,.0f} requests/s, none of {reloads['requests']:,} failed\n"
        f"{reloads['machine']}"
    )
    panels.draw(picture, title, "reloads", range(1, len(samples) + 1), PANELS, samples, height=5)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
