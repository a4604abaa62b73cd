"""Plots of an evaluation, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from tripose.errors import missing_extra
from tripose.formats.writing import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people tell apart; dashes repeat the distinction for print.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_DPI = 130


def check_plots() -> None:
    """Refuse early what would fail after the work is done.

    Raises:
        TriposeError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "train")


def plot_error_curves(
    errors_mm: Mapping[str, Float[np.ndarray, " joint"]], end_mm: float, title: str, to: Path
) -> None:
    """Share of joints within each distance, one curve for each method.

    Args:
        errors_mm: by method; NaN for joints that were not found, which no distance includes.
        end_mm: of the distance axis.
        title: what was evaluated.
        to: file to write.
    """
    figure, axes = _figure(6.4, 4.2)
    for style, (name, errors) in zip(_styles(len(errors_mm)), errors_mm.items(), strict=True):
        within = np.sort(errors[errors <= end_mm])
        share = np.arange(len(within) + 1) / max(len(errors), 1)
        axes.step([0, *within, end_mm], [*share, share[-1]], where="post", label=name, **style)
    axes.set(xlim=(0, end_mm), ylim=(0, 1), xlabel="error, mm", ylabel="share of joints within", title=title)
    _finish(figure, axes, to)


def plot_joints(
    joints: Sequence[str], mean_mm: Mapping[str, Float[np.ndarray, " joint"]], title: str, to: Path
) -> None:
    """Mean error of every joint, one bar for each method.

    Args:
        joints: names.
        mean_mm: by method; NaN leaves a bar out.
        title: what was evaluated.
        to: file to write.
    """
    figure, axes = _figure(max(6.4, 0.45 * len(joints)), 4.2)
    place, width = np.arange(len(joints)), 0.8 / max(len(mean_mm), 1)
    for i, (name, values) in enumerate(mean_mm.items()):
        axes.bar(place + (i + 0.5) * width - 0.4, values, width, color=_COLORS[i % len(_COLORS)], label=name)
    axes.set_xticks(place, [j.replace("_", " ") for j in joints], rotation=60, ha="right", fontsize=8)
    axes.set(ylabel="mean error, mm", title=title)
    _finish(figure, axes, to)


def plot_views(
    views: Sequence[int],
    mean_mm: Mapping[str, Float[np.ndarray, " number"]],
    median_mm: Mapping[str, Float[np.ndarray, " number"]],
    title: str,
    to: Path,
) -> None:
    """Mean (solid) and median (thin) error against the number of cameras, for each method.

    Args:
        views: numbers of cameras.
        mean_mm: by method, one for each number; NaN where there is none.
        median_mm: likewise.
        title: what was evaluated.
        to: file to write.
    """
    figure, axes = _figure(6.4, 4.2)
    for style, name in zip(_styles(len(mean_mm)), mean_mm, strict=True):
        axes.plot(views, mean_mm[name], marker="o", label=name, **style)
        axes.plot(views, median_mm[name], marker=".", alpha=0.5, **{**style, "linewidth": 0.9})
    if len(views) <= 12:
        axes.set_xticks(list(views))
    axes.set(xlabel="cameras", ylabel="error, mm: mean, and median (thin)", title=title, ylim=(0, None))
    _finish(figure, axes, to)


def _figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def _styles(count: int) -> list[dict[str, Any]]:
    return [
        {"color": _COLORS[i % len(_COLORS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.8}
        for i in range(count)
    ]


def _finish(figure: Figure, axes: Axes, to: Path) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)
    with atomic(to, ".png") as part:
        figure.savefig(part, dpi=_DPI)
