"""Draws what `bench soak --json FILE` saw: memory, files, rate and confirm latency over time.

    python plot_soak.py soak.json soak.png
"""

import json
import sys

import panels

MIB = 1024 * 1024
PANELS = [
    ("RSS, MiB", lambda sample: sample["rss_bytes"] / MIB),
    ("files of the log", lambda sample: sample["log_files"]),
    ("their bytes, MiB", lambda sample: sample["log_bytes"] / MIB),
    ("messages/s", lambda sample: sample["rate_per_s"]),
    ("backlog of the slow one", lambda sample: sample["backlog"]),
    ("confirm p99, ms", lambda sample: sample["confirm_p99_us"] / 1000),
]


def draw(soak, picture):
    samples = soak["samples"]
    title = f"{soak['published']:,} messages at {soak['rate_per_s']:,}/s, {soak['lost']} lost\n{soak['machine']}"
    panels.draw(picture, title, "minutes", [sample["seconds"] / 60 for sample in samples], PANELS, samples, height=12)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
