"""From predictions to tables: by group and number of views; by joint; by pair of cameras; one method against another.

A table is a list of rows, each a flat dictionary that can go into a JSON file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from tripose import metrics
from tripose.errors import TriposeError
from tripose.evaluation.predictions import Predictions
from tripose.triangulation import METHODS

Row = dict[str, str | int | float]
Table = list[Row]

Tables = dict[str, Table]
"""``by_group``, ``by_joint``, ``by_pair`` and ``ratios``."""

ALL = "all"
"""The group of all rows: its mean is over rows, as the published "Average"."""

MEAN_OF_GROUPS = "mean of groups"
"""Every group counts the same, as in the published tables over actions."""


@dataclass(frozen=True)
class Errors:
    """Errors of every entry, mm, see `tripose.metrics`; NaN where something is missing.

    Attributes:
        absolute: as predicted.
        relative: to the root.
        aligned: after rotation, scaling and shift.
        known: where there is a truth.
    """

    absolute: Float[np.ndarray, "entry joint"]
    relative: Float[np.ndarray, "entry joint"]
    aligned: Float[np.ndarray, "entry joint"]
    known: Bool[np.ndarray, "entry joint"]


def errors_of(predictions: Predictions) -> Errors:
    """The errors of all entries.

    Raises:
        TriposeError: there are no entries, or none with a known joint.
    """
    found, truth = predictions.keypoints_mm, predictions.truth_mm
    known = metrics.known(truth)
    if not known.any():
        raise TriposeError("there is nothing to evaluate: " + ("no joint has a truth" if len(known) else "no samples"))
    return Errors(
        absolute=metrics.joint_errors(found, truth),
        relative=metrics.relative_errors(found, truth, predictions.skeleton),
        aligned=metrics.aligned_errors(found, truth),
        known=known,
    )


def all_tables(predictions: Predictions, errors: Errors) -> Tables:
    """Every table, by name."""
    return {f.__name__: f(predictions, errors) for f in (by_group, by_joint, by_pair, ratios)}


def methods_of(predictions: Predictions) -> list[str]:
    """The methods, the classical ones first."""
    names = sorted(set(predictions.method.tolist()))
    return [m for m in METHODS if m in names] + [n for n in names if n not in METHODS]


def by_group(predictions: Predictions, errors: Errors) -> Table:
    """Every figure for each method, group and number of views; where there are several groups, also for all."""
    table: Table = []
    for method, views, chosen in _cells(predictions):
        head: Row = {"method": method, "views": views}
        groups = sorted(set(predictions.group[chosen].tolist()))
        each = [figures(predictions, errors, chosen & (predictions.group == g)) for g in groups]
        table += [{**head, "group": g, **f} for g, f in zip(groups, each, strict=True)]
        if len(groups) > 1:
            table.append({**head, "group": ALL, **figures(predictions, errors, chosen)})
            table.append({**head, "group": MEAN_OF_GROUPS, **_mean_of(each)})
    return table


def figures(predictions: Predictions, errors: Errors, chosen: Bool[np.ndarray, " entry"]) -> Row:
    """Every figure of some entries: lengths in mm, shares in 0..1, see `tripose.metrics`."""
    absolute, known = errors.absolute[chosen], errors.known[chosen]
    return {
        "rows": len(set(predictions.row[chosen].tolist())),
        "mean_mm": metrics.mean(absolute),
        "median_mm": metrics.percentile(absolute, 50.0),
        "p99_mm": metrics.percentile(absolute, 99.0),
        "above_150mm": metrics.share_above(absolute),
        "relative_mm": metrics.mean(errors.relative[chosen]),
        "aligned_mm": metrics.mean(errors.aligned[chosen]),
        "pck_150mm": metrics.pck(absolute, known),
        "auc_150mm": metrics.auc(absolute, known),
        "capped_500mm": metrics.capped_mean(absolute, known),
        "missing": metrics.missing(absolute, known),
        "relative_missing": metrics.missing(errors.relative[chosen], known),
        "aligned_missing": metrics.missing(errors.aligned[chosen], known),
    }


def by_joint(predictions: Predictions, errors: Errors) -> Table:
    """Mean, median and missing for each method, number of views and joint."""
    return [
        {
            "method": method,
            "views": views,
            "joint": joint,
            "mean_mm": metrics.mean(errors.absolute[chosen, i : i + 1]),
            "median_mm": metrics.percentile(errors.absolute[chosen, i : i + 1], 50.0),
            "missing": metrics.missing(errors.absolute[chosen, i : i + 1], errors.known[chosen, i : i + 1]),
        }
        for method, views, chosen in _cells(predictions)
        for i, joint in enumerate(predictions.skeleton.joints)
    ]


def by_pair(predictions: Predictions, errors: Errors) -> Table:
    """Every figure for each method and pair of cameras; empty where rows do not share a rig, or no pair was tried."""
    if not predictions.cameras:
        return []
    table: Table = []
    for method, views, chosen in _cells(predictions):
        if views == 2:
            for pair in np.unique(predictions.views[chosen], axis=0)[::-1]:
                first, second = (predictions.cameras[i] for i in np.flatnonzero(pair))
                of_pair = chosen & (predictions.views == pair).all(1)
                head: Row = {"method": method, "first": first, "second": second}
                table.append({**head, **figures(predictions, errors, of_pair)})
    return table


def ratios(predictions: Predictions, errors: Errors) -> Table:
    """Mean error of each method over that of each method before it, with 95 % intervals, see `metrics.paired_ratio`."""
    names, table = methods_of(predictions), list[Row]()
    groups = sorted(set(predictions.group.tolist()))
    for n in np.unique(predictions.n_views)[::-1].tolist():
        for group in [*groups, ALL] if len(groups) > 1 else groups:
            chosen = (predictions.n_views == n) & ((predictions.group == group) | (group == ALL))
            for i, name in enumerate(names):
                for other in names[:i]:
                    first, second = _matched(predictions, chosen, name, other)
                    both = np.isfinite(errors.absolute[first]) & np.isfinite(errors.absolute[second])
                    if both.any():
                        found = metrics.paired_ratio(
                            errors.absolute[first],
                            errors.absolute[second],
                            errors.known[first],
                            predictions.row[first],
                        )
                        head: Row = {"method": name, "against": other, "views": n, "group": group}
                        capped: Row = {
                            "capped_500mm": metrics.capped_mean(errors.absolute[first], both),
                            "against_capped_500mm": metrics.capped_mean(errors.absolute[second], both),
                        }
                        table.append({**head, **asdict(found), **capped})
    return table


def _cells(predictions: Predictions) -> Iterator[tuple[str, int, Bool[np.ndarray, " entry"]]]:
    """Each number of views, each method, and their entries."""
    for n in np.unique(predictions.n_views)[::-1].tolist():
        for method in methods_of(predictions):
            chosen = (predictions.n_views == n) & (predictions.method == method)
            if chosen.any():
                yield method, n, chosen


def _matched(
    predictions: Predictions, chosen: Bool[np.ndarray, " entry"], name: str, other: str
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of both methods for the same rows and views, in the same order."""
    keys = [
        {
            (row, views.tobytes()): i
            for i, row, views in zip(entries, predictions.row[entries], predictions.views[entries], strict=True)
        }
        for entries in (np.flatnonzero(chosen & (predictions.method == m)) for m in (name, other))
    ]
    shared = [k for k in keys[0] if k in keys[1]]
    first, second = (np.array([k[s] for s in shared], dtype=int) for k in keys)
    return first, second


def _mean_of(each: list[Row]) -> Row:
    """The mean of every figure over groups; of those that have it."""
    result: Row = {"rows": sum(int(f["rows"]) for f in each)}
    for name in each[0]:
        if name != "rows":
            values = np.array([f[name] for f in each], dtype=np.float64)
            result[name] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return result
