"""How far poses are from the truth: plain functions of arrays, mm and float64, NaN = missing.

Errors are [row joint]: NaN where the truth is not known *or* nothing was predicted. Which of the two it was, `known`
says, so that what a method left out is counted (`missing`, `pck`, `auc`, `capped_mean`) and no mean hides it. Means are
over joints, all rows pooled; where every joint is known and found, that is the mean over poses of the published tables.

Sources: MPJPE and its root-relative form, Ionescu et al., Human3.6M, TPAMI 2014; alignment, Umeyama, TPAMI 1991; PCK at
150 mm and the area under its curve, Mehta et al., 3DV 2017 (here of absolute positions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tripose.errors import TriposeError
from tripose.skeleton import Skeleton

GROSS_MM = 150.0
"""An error beyond this is a gross one; the end of the curve whose area `auc` gives."""

CAP_MM = 500.0
"""What `capped_mean` counts at most, and for a joint that was not found."""


def joint_errors(
    predicted_mm: Float[np.ndarray, "row joint 3"], truth_mm: Float[np.ndarray, "row joint 3"]
) -> Float[np.ndarray, "row joint"]:
    """Distance of every joint from its truth, as the positions are given (absolute)."""
    difference = np.asarray(predicted_mm, np.float64) - np.asarray(truth_mm, np.float64)
    errors: Float[np.ndarray, "row joint"] = np.linalg.norm(difference, axis=-1)
    return errors


def relative_errors(
    predicted_mm: Float[np.ndarray, "row joint 3"], truth_mm: Float[np.ndarray, "row joint 3"], skeleton: Skeleton
) -> Float[np.ndarray, "row joint"]:
    """Errors after both roots were moved to the origin; the root itself counts, with error 0, as published.

    NaN in a whole row whose root is missing, and everywhere for a skeleton that has none (see `root`).
    """
    return joint_errors(
        predicted_mm - root(predicted_mm, skeleton)[:, None], truth_mm - root(truth_mm, skeleton)[:, None]
    )


def aligned_errors(
    predicted_mm: Float[np.ndarray, "row joint 3"], truth_mm: Float[np.ndarray, "row joint 3"]
) -> Float[np.ndarray, "row joint"]:
    """Errors after each row was rotated, scaled and moved onto its truth (PA-MPJPE).

    The alignment uses the joints that are known and found; with fewer than three, which fit anything, the row is NaN.
    """
    return joint_errors(align(predicted_mm, truth_mm), truth_mm)


def align(
    predicted_mm: Float[np.ndarray, "row joint 3"], truth_mm: Float[np.ndarray, "row joint 3"]
) -> Float[np.ndarray, "row joint 3"]:
    """Each row of the prediction under the similarity (no mirroring) that brings it nearest to its truth."""
    predicted, truth = np.asarray(predicted_mm, np.float64), np.asarray(truth_mm, np.float64)
    used = known(predicted) & known(truth)
    count = used.sum(1)
    weight = (used / np.maximum(count, 1)[:, None])[..., None]
    from_mm = np.where(used[..., None], predicted, 0.0)
    onto_mm = np.where(used[..., None], truth, 0.0)
    from_center, onto_center = (weight * from_mm).sum(1, keepdims=True), (weight * onto_mm).sum(1, keepdims=True)
    centered = from_mm - from_center
    covariance = ((weight * (onto_mm - onto_center)).mT) @ centered
    U, singular, Vt = np.linalg.svd(covariance)
    sign = np.ones_like(singular)
    sign[:, 2] = np.where(np.linalg.det(U) * np.linalg.det(Vt) < 0, -1.0, 1.0)
    rotation = (U * sign[:, None]) @ Vt
    spread = (weight * centered**2).sum((1, 2))
    scale = (singular * sign).sum(1) / np.where(spread > 0, spread, 1.0)
    aligned = scale[:, None, None] * ((predicted - from_center) @ rotation.mT) + onto_center
    return np.where((count >= 3)[:, None, None], aligned, np.nan)


def root(keypoints_mm: Float[np.ndarray, "row joint 3"], skeleton: Skeleton) -> Float[np.ndarray, "row 3"]:
    """The skeleton's root, else the middle of the hips; NaN where that is missing, or the skeleton has no hips."""
    joints = [skeleton.root] if skeleton.root is not None else ["left_hip", "right_hip"]
    keypoints = np.asarray(keypoints_mm, np.float64)
    if not set(joints) <= set(skeleton.joints):
        return np.full((len(keypoints), 3), np.nan)
    found: Float[np.ndarray, "row 3"] = keypoints[:, [skeleton.index(j) for j in joints]].mean(1)
    return found


def known(keypoints_mm: Float[np.ndarray, "row joint 3"]) -> Bool[np.ndarray, "row joint"]:
    """Which joints have a position."""
    is_known: Bool[np.ndarray, "row joint"] = np.isfinite(keypoints_mm).all(-1)
    return is_known


# --- Figures ----------------------------------------------------------------------------------------------------------
# NaN where there is nothing to count.


def mean(errors_mm: Float[np.ndarray, "row joint"]) -> float:
    """Mean error of the joints that were found: MPJPE of absolute, relative or aligned errors."""
    return _mean(errors_mm[np.isfinite(errors_mm)])


def percentile(errors_mm: Float[np.ndarray, "row joint"], percent: float) -> float:
    """The error that `percent` of the joints that were found stay below; 50 is the median."""
    found = errors_mm[np.isfinite(errors_mm)]
    return float(np.percentile(found, percent)) if found.size else float("nan")


def share_above(errors_mm: Float[np.ndarray, "row joint"], threshold_mm: float = GROSS_MM) -> float:
    """Share, among the joints that were found, of errors beyond the threshold."""
    return _mean(errors_mm[np.isfinite(errors_mm)] > threshold_mm)


def missing(errors_mm: Float[np.ndarray, "row joint"], is_known: Bool[np.ndarray, "row joint"]) -> float:
    """Share of the known joints that were not found."""
    return _mean(~np.isfinite(errors_mm[is_known]))


def pck(
    errors_mm: Float[np.ndarray, "row joint"],
    is_known: Bool[np.ndarray, "row joint"],
    threshold_mm: float = GROSS_MM,
) -> float:
    """Share of the known joints that were found within the threshold."""
    return _mean(_with_missing(errors_mm, is_known) <= threshold_mm)


def auc(
    errors_mm: Float[np.ndarray, "row joint"], is_known: Bool[np.ndarray, "row joint"], end_mm: float = GROSS_MM
) -> float:
    """Mean of `pck` over all thresholds from 0 to `end_mm`: the exact area, where the source takes 31 steps."""
    return _mean(np.maximum(1 - _with_missing(errors_mm, is_known) / end_mm, 0.0))


def capped_mean(
    errors_mm: Float[np.ndarray, "row joint"], is_known: Bool[np.ndarray, "row joint"], cap_mm: float = CAP_MM
) -> float:
    """Mean error of the known joints, of which none counts more than `cap_mm` and a missing one counts that."""
    return _mean(np.minimum(_with_missing(errors_mm, is_known), cap_mm))


def _with_missing(
    errors_mm: Float[np.ndarray, "row joint"], is_known: Bool[np.ndarray, "row joint"]
) -> Float[np.ndarray, " known"]:
    """Errors of the known joints, infinite where nothing was found."""
    found = errors_mm[is_known]
    return np.where(np.isfinite(found), found, np.inf)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


# --- One method against another ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """One method's mean error divided by another's, over the joints that both found.

    Attributes:
        ratio: below 1 where the first is better.
        low: end of the interval that holds 95 % of the resamples.
        high: its other end.
        joints: that both found.
        left_out: known joints that one of them did not find, or neither.
    """

    ratio: float
    low: float
    high: float
    joints: int
    left_out: int


def paired_ratio(
    first_mm: Float[np.ndarray, "row joint"],
    second_mm: Float[np.ndarray, "row joint"],
    is_known: Bool[np.ndarray, "row joint"],
    cluster: np.ndarray | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Ratio:
    """Ratio of mean errors, with a bootstrap over rows.

    Rows are drawn together for both methods: a hard row is hard for both, and what remains is their difference.

    Args:
        first_mm: errors of one method.
        second_mm: errors of the other, same rows.
        is_known: joints with a truth.
        cluster: [row] rows with the same value are drawn together, such as one person seen by several pairs of
            cameras; None: each on its own.
        resamples: how many.
        seed: of the drawing; the same seed gives the same interval.

    Raises:
        TriposeError: no joint that both found.
    """
    both = np.isfinite(first_mm) & np.isfinite(second_mm)
    if not both.any():
        raise TriposeError("the two methods have no joint in common that both found, so there is nothing to compare")
    unit = np.arange(len(both)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    sums = np.stack(
        [np.bincount(unit, np.where(both, errors, 0.0).sum(1)) for errors in (first_mm, second_mm)], axis=-1
    )
    random = np.random.default_rng(seed)
    drawn = np.array([sums[random.integers(len(sums), size=len(sums))].sum(0) for _ in range(resamples)])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sums[:, 0].sum() / sums[:, 1].sum()
        low, high = np.nanpercentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Ratio(float(ratio), float(low), float(high), int(both.sum()), int((is_known & ~both).sum()))
