"""Losses and errors of training runs, from their TensorBoard files, in one picture.

``python tools/plot_runs.py docs/images/training.png "2D network=runs/keypoints-synthetic" ...``; runs with the same
title follow each other in one panel.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import typer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_SMOOTH = 10  # points of a curve that are averaged


def scalars(run: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one curve; empty where the run has none."""
    files = sorted((run / "tensorboard").rglob("events*"))
    if not files:
        raise SystemExit(f"{run} has no TensorBoard files")
    events = EventAccumulator(str(files[0].parent))
    events.Reload()
    points = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
    return np.array([p.step for p in points]), np.array([p.value for p in points])


def main(out: Path, runs: list[str]) -> None:
    panels: dict[str, list[Path]] = {}
    for text in runs:
        title, _, folder = text.partition("=")
        panels.setdefault(title, []).append(Path(folder))
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.4), squeeze=False, layout="constrained")
    for axis, (title, folders) in zip(axes[0], panels.items(), strict=True):
        error, done = axis.twinx(), 0
        for folder in folders:
            steps, losses = scalars(folder, "train/loss")
            n = min(_SMOOTH, len(losses))
            smooth = np.convolve(losses, np.full(n, 1 / n), "valid")
            axis.plot(done + steps[n - 1 :], smooth, color="C0", linewidth=1)
            at, validated = scalars(folder, "val/capped_mpjpe_mm")
            error.plot(done + at, validated, color="C1", marker="o", markersize=3)
            done += int(steps[-1])
        axis.set(title=title, xlabel="step", ylabel="loss (blue)")
        error.set_ylabel("validation, capped mean, mm (orange)")
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    typer.run(main)
