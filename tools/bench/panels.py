"""One panel a figure, each from zero, so that flat looks flat: how the pictures of `bench` are drawn."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend must be chosen first)


def draw(picture, title, xlabel, x, panels, samples, height):
    """`panels` are pairs of a label and a function of a sample."""
    figure, axes = plt.subplots(len(panels), 1, sharex=True, figsize=(10, height), layout="constrained")
    for axis, (label, value) in zip(axes, panels):
        axis.plot(x, [value(sample) for sample in samples], linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel(xlabel)
    figure.suptitle(title, fontsize=10)
    figure.savefig(picture, dpi=100)
