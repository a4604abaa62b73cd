"""The tables of an evaluation as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from tripose.evaluation.tables import Table, Tables

PLOTS = ("curves.png", "joints.png", "views.png")
"""Names of the plots beside the report."""


def markdown(tables: Tables, about: Mapping[str, str]) -> str:
    """The tables as Markdown, with links to the plots.

    Args:
        tables: not empty.
        about: what was evaluated, in words.
    """
    most = max(int(row["views"]) for row in tables["by_group"])
    parts = ["# Evaluation", "\n".join(f"- {name}: {text}" for name, text in about.items())]
    parts += ["## Errors", _table(_COLUMNS, tables["by_group"]), _LEGEND]
    if tables["ratios"]:
        parts += ["## One method against another", _table(_RATIO_COLUMNS, tables["ratios"]), _RATIO_LEGEND]
    joints = [row for row in tables["by_joint"] if row["views"] == most]
    parts += [f"## Joints, {most} views", "Mean error, mm.", _pivot(joints, ["joint"])]
    if tables["by_pair"]:
        parts += ["## Pairs of cameras", "Mean error, mm.", _pivot(tables["by_pair"], ["first", "second"])]
    parts += [f"![{name}]({name})" for name in PLOTS]
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Lengths in mm, over joints that have a truth and were found: mean, median, 99th percentile, share above 150 mm; "
    "mean relative to the root; mean after Procrustes alignment with scale (PA). Over all joints that have a truth, "
    "found or not: PCK, the share within 150 mm; AUC, its mean over thresholds from 0 to 150 mm; capped, the mean with "
    "no joint counting more than 500 mm, and a missing one that; missing, the share that was not found. "
    "Fusion also finds joints that one view or none sees, which the others leave out: compare by capped, or below."
)
_RATIO_LEGEND = (
    "Mean error of the first divided by that of the second, over joints that both found, with the 95 % interval of a "
    "paired bootstrap over rows; and both means over these joints with none counting more than 500 mm."
)


def _text(value: str | int | float) -> str:
    return str(value)


def mm(value: str | int | float) -> str:
    """A length; nothing where it is not known."""
    return "" if math.isnan(float(value)) else f"{float(value):.1f}"


def percent(value: str | int | float) -> str:
    """A share; nothing where it is not known."""
    return "" if math.isnan(float(value)) else f"{100 * float(value):.1f} %"


def _ratio(value: str | int | float) -> str:
    return f"{float(value):.3f}"


_Columns = Sequence[tuple[str, str, Callable[[str | int | float], str]]]

_COLUMNS: _Columns = (
    ("method", "method", _text),
    ("group", "group", _text),
    ("views", "views", _text),
    ("rows", "rows", _text),
    ("mean", "mean_mm", mm),
    ("median", "median_mm", mm),
    ("p99", "p99_mm", mm),
    ("> 150", "above_150mm", percent),
    ("relative", "relative_mm", mm),
    ("PA", "aligned_mm", mm),
    ("PCK", "pck_150mm", percent),
    ("AUC", "auc_150mm", percent),
    ("capped", "capped_500mm", mm),
    ("missing", "missing", percent),
)
_MAIN = ("method", "group", "views", "mean", "median", "p99", "> 150", "missing")
_RATIO_COLUMNS: _Columns = (
    ("method", "method", _text),
    ("against", "against", _text),
    ("group", "group", _text),
    ("views", "views", _text),
    ("ratio", "ratio", _ratio),
    ("from", "low", _ratio),
    ("to", "high", _ratio),
    ("capped", "capped_500mm", mm),
    ("against, capped", "against_capped_500mm", mm),
    ("joints", "joints", _text),
    ("left out", "left_out", _text),
)


def error_cells(by_group: Table) -> list[list[str]]:
    """The main columns of the table of errors as text, its head first, for a terminal."""
    return _cells([column for column in _COLUMNS if column[0] in _MAIN], by_group)


def _cells(columns: _Columns, table: Table) -> list[list[str]]:
    return [[head for head, _, _ in columns], *([show(row[key]) for _, key, show in columns] for row in table)]


def _table(columns: _Columns, table: Table) -> str:
    head, *rows = _cells(columns, table)
    return text_table(head, rows)


def _pivot(table: Table, keys: list[str]) -> str:
    """Mean errors with a column for each method."""
    methods = list(dict.fromkeys(str(row["method"]) for row in table))
    mean = {(*(row[k] for k in keys), row["method"]): row["mean_mm"] for row in table}
    places = dict.fromkeys(tuple(row[k] for k in keys) for row in table)
    rows = ([*map(str, place), *(mm(mean.get((*place, m), math.nan)) for m in methods)] for place in places)
    return text_table([*keys, *methods], rows)


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
