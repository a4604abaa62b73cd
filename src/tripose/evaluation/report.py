"""An evaluation as a folder: predictions.npz, metrics.json, report.md and plots; of Human3.6M also results-*.pkl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tripose.drawing.plots import plot_error_curves, plot_joints, plot_views
from tripose.errors import TriposeError
from tripose.evaluation.human36m_report import by_action, human36m_markdown, human36m_table, is_human36m
from tripose.evaluation.human36m_results import write_official
from tripose.evaluation.markdown import PLOTS, markdown
from tripose.evaluation.predictions import Predictions
from tripose.evaluation.tables import ALL, Errors, Row, Table, Tables, all_tables, errors_of, methods_of
from tripose.formats.writing import atomic
from tripose.metrics import GROSS_MM


def write_report(predictions: Predictions, folder: Path, about: Mapping[str, str]) -> Tables:
    """Write the folder; files of an older evaluation there are replaced.

    Args:
        predictions: what was found.
        folder: made if it is not there.
        about: what was evaluated, in words, for the head of the report and of ``metrics.json``.

    Returns:
        The tables.

    Raises:
        TriposeError: there is nothing to evaluate, or the folder cannot be written.
    """
    errors = errors_of(predictions)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TriposeError(f"{folder} cannot be made: {error.strerror}") from error
    predictions.save(folder / "predictions.npz")  # first: all the rest can be made from it again
    scenes = is_human36m(predictions)
    shown = by_action(predictions) if scenes else predictions
    tables = all_tables(shown, errors)
    if scenes:
        tables["human36m"] = human36m_table(predictions, errors)
        write_official(predictions, folder)
    about = {
        **about,
        "skeleton": f"{predictions.skeleton.name}, {len(predictions.skeleton)} joints",
        "rows": str(len(set(predictions.row.tolist()))),
    }
    _write(folder / "metrics.json", json.dumps({"about": about, **_strict(tables)}, indent=1, allow_nan=False) + "\n")
    _plot(shown, errors, tables, folder)
    paper = f"\n{human36m_markdown(tables['human36m'])}\n" if scenes else ""
    _write(folder / "report.md", markdown(tables, about) + paper)
    return tables


def _plot(predictions: Predictions, errors: Errors, tables: Tables, folder: Path) -> None:
    curves, joints, views = (folder / name for name in PLOTS)
    methods, counts = methods_of(predictions), sorted(set(predictions.n_views.tolist()))
    most = counts[-1]
    title = f"{len(set(predictions.row.tolist()))} rows, {most} views"
    chosen = {m: (predictions.n_views == most) & (predictions.method == m) for m in methods}
    of_known = {m: errors.absolute[c][errors.known[c]] for m, c in chosen.items()}
    plot_error_curves(of_known, GROSS_MM, title, curves)
    names = predictions.skeleton.joints
    at_joint = {(r["method"], r["joint"]): r["mean_mm"] for r in tables["by_joint"] if r["views"] == most}
    bars = {m: np.array([at_joint.get((m, j), math.nan) for j in names], dtype=np.float64) for m in methods}
    plot_joints(names, bars, title, joints)
    whole = {(r["method"], r["views"]): r for r in tables["by_group"] if _is_whole(r, tables)}
    mean, median = (
        {m: np.array([whole[m, n][key] if (m, n) in whole else math.nan for n in counts], float) for m in methods}
        for key in ("mean_mm", "median_mm")
    )
    plot_views(counts, mean, median, title.partition(",")[0], views)


def _is_whole(row: Row, tables: Tables) -> bool:
    """Whether a row is of all groups, or of the only one."""
    same = [r for r in tables["by_group"] if (r["method"], r["views"]) == (row["method"], row["views"])]
    return row["group"] == ALL or len(same) == 1


def _strict(tables: Tables) -> dict[str, list[dict[str, str | int | float | None]]]:
    return {name: strict(table) for name, table in tables.items()}


def strict(table: Table) -> list[dict[str, str | int | float | None]]:
    """Null for NaN, which JSON does not have, and nine digits, which do not depend on how arrays lie in memory."""

    def plain(value: str | int | float) -> str | int | float | None:
        if not isinstance(value, float):
            return value
        return None if math.isnan(value) else float(f"{value:.9g}")

    return [{key: plain(value) for key, value in row.items()} for row in table]


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
