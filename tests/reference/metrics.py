"""Slow, readable twins of `tripose.metrics`: loops over rows and joints, one number at a time."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation


def joint_error(predicted, truth):
    """Distance of two points; NaN when either is missing."""
    return math.sqrt(sum((p - t) ** 2 for p, t in zip(predicted, truth, strict=True)))


def errors(predicted, truth):
    return np.array(
        [[joint_error(p, t) for p, t in zip(*row, strict=True)] for row in zip(predicted, truth, strict=True)]
    )


def relative_errors(predicted, truth, roots):
    """`roots`: the joints whose mean is the root."""
    moved = []
    for pose in (predicted, truth):
        moved.append([[point - sum(row[j] for j in roots) / len(roots) for point in row] for row in pose])
    return errors(*moved)


def aligned_errors_of_row(predicted, truth):
    """The least squares over similarities, by general minimisation from 24 rotations."""
    used = [j for j in range(len(truth)) if np.isfinite(predicted[j]).all() and np.isfinite(truth[j]).all()]
    p, t = predicted[used], truth[used]
    size = np.linalg.norm(t - t.mean(0))

    def moved(x, points):
        return math.exp(x[0]) * Rotation.from_rotvec(x[1:4]).apply(points - p.mean(0)) + t.mean(0) + size * x[4:]

    best = None
    for start in Rotation.create_group("O"):
        guess = np.concatenate([[math.log(size / np.linalg.norm(p - p.mean(0)))], start.as_rotvec(), np.zeros(3)])
        found = least_squares(lambda x: (moved(x, p) - t).ravel() / size, guess, xtol=1e-15, ftol=1e-15, gtol=1e-15)
        if best is None or found.cost < best.cost:
            best = found
    result = np.full(len(truth), np.nan)
    result[used] = np.linalg.norm(moved(best.x, p) - t, axis=-1)
    return result


def figures(error_rows, known_rows, gross_mm=150.0, cap_mm=500.0):
    """All figures of `tripose.metrics`, by name."""
    found, known = [], 0
    for row, known_row in zip(error_rows, known_rows, strict=True):
        for error, is_known in zip(row, known_row, strict=True):
            known += bool(is_known)
            if is_known and not math.isnan(error):
                found.append(float(error))
    ordered = sorted(found)

    def percentile(percent):
        place = percent / 100 * (len(ordered) - 1)
        low, high = math.floor(place), math.ceil(place)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    steps = 3000
    curve = [sum(e <= gross_mm * (i + 0.5) / steps for e in found) / known for i in range(steps)]
    return {
        "mean": sum(found) / len(found),
        "median": percentile(50),
        "p99": percentile(99),
        "above": sum(e > gross_mm for e in found) / len(found),
        "missing": (known - len(found)) / known,
        "pck": sum(e <= gross_mm for e in found) / known,
        "auc": sum(curve) / steps,  # to within 1 / steps
        "capped": (sum(min(e, cap_mm) for e in found) + cap_mm * (known - len(found))) / known,
    }
