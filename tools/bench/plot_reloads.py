"""Draws what `bench reloads --json FILE` saw: memory and the time a reload takes, over the reloads.

    python plot_reloads.py reloads.json reloads.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend must be chosen first)

PANELS = [
    ("RSS, MiB", lambda sample: sample["rss_bytes"] / 1024 / 1024),
    ("until it took effect, ms", lambda sample: sample["took_ms"]),
]


def draw(reloads, picture):
    """One panel a figure, each from zero, so that flat looks flat."""
    samples = reloads["samples"]
    figure, axes = plt.subplots(len(PANELS), 1, sharex=True, figsize=(10, 5), layout="constrained")
    for axis, (label, value) in zip(axes, PANELS):
        axis.plot(range(1, len(samples) + 1), [value(sample) for sample in samples], linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("reloads")
    figure.suptitle(
        f"{len(samples):,} reloads under {reloads['rate_per_s']:,.0f} requests/s, none of {reloads['requests']:,} failed\n"
        f"{reloads['machine']}",
        fontsize=10,
    )
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
