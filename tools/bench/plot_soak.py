"""Draws what `bench soak --json FILE` saw: memory, files, rate and confirm latency over time.

    python plot_soak.py soak.json soak.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend must be chosen first)

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
    """One panel a figure, each from zero, so that flat looks flat."""
    samples = soak["samples"]
    minutes = [sample["seconds"] / 60 for sample in samples]
    figure, axes = plt.subplots(len(PANELS), 1, sharex=True, figsize=(10, 12), layout="constrained")
    for axis, (label, value) in zip(axes, PANELS):
        axis.plot(minutes, [value(sample) for sample in samples], linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.suptitle(
        f"{soak['published']:,} messages at {soak['rate_per_s']:,}/s, {soak['lost']} lost\n{soak['machine']}",
        fontsize=10,
    )
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
