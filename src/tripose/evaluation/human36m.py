"""The protocol of Human3.6M: which rows are tested, and errors by subject and action as in the paper's tables.

Sources: Iskakov et al., Learnable Triangulation of Human Pose, ICCV 2019, and its published code. Kept as it is there,
since the published numbers are made so, though one would not choose it:

- Relative errors are those after the pelvis of both poses was moved to the origin; the pelvis counts, with error 0.
- All joints of all labels count, whether a camera sees them or not.
- The published "Average" is over frames, so that long actions count more; that of the paper's tables is over the 15
  actions, whose two trials are pooled. Here are both: `ALL` and `MEAN_OF_ACTIONS`.

One thing is not as there: a joint that was not found (NaN) is in no mean but in the share that is missing, see
`tripose.metrics`. A pose without its pelvis has no relative errors, so all of it is missing there. Where nothing is
missing, every number is the published one; else a mean says something only together with the share beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from tripose import metrics
from tripose.data.human36m.protocol import DAMAGED, TEST_SUBJECTS
from tripose.errors import TriposeError
from tripose.evaluation.tables import ALL, Row, Table
from tripose.skeleton import Skeleton

MEAN_OF_ACTIONS = "mean of actions"
"""Every action counts the same, however long it is."""


def damaged_rows(subject: Shaped[np.ndarray, " row"], scene: Shaped[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Which rows are of scenes with damaged labels; the paper's absolute errors are without them."""
    is_damaged = np.zeros(len(subject), dtype=bool)
    for who, what in DAMAGED:
        is_damaged |= (subject == who) & (scene == what)
    return is_damaged


def kept_rows(
    subject: Shaped[np.ndarray, " row"],
    scene: Shaped[np.ndarray, " row"],
    *,
    damaged: bool,
    every: int = 1,
    subjects: tuple[str, ...] = TEST_SUBJECTS,
) -> Int[np.ndarray, " kept"]:
    """The rows of a test set, in the order of the labels.

    Args:
        subject: of every row of the labels.
        scene: action and trial of every row, such as ``Greeting-2``.
        damaged: whether the damaged scenes stay.
        every: of the rows that are left, take the first and every n-th after it (``retain_every_n_frames_in_test``).
            Counted through: a scene does not begin anew, so its first frame need not be among them.
        subjects: who is tested.

    Raises:
        TriposeError: `every` is below 1.
    """
    if every < 1:
        raise TriposeError(f"every {every}-th frame is to be kept; that must be at least 1, which keeps all")
    chosen = np.isin(subject, subjects)
    if not damaged:
        chosen &= ~damaged_rows(subject, scene)
    return np.flatnonzero(chosen)[::every]


@dataclass(frozen=True)
class ProtocolErrors:
    """Errors of every row, mm, see `tripose.metrics`; NaN where something is missing.

    Attributes:
        absolute: as predicted.
        relative: to the root.
        known: where there is a truth.
    """

    absolute: Float[np.ndarray, "row joint"]
    relative: Float[np.ndarray, "row joint"]
    known: Bool[np.ndarray, "row joint"]


def protocol_errors(
    predicted_mm: Float[np.ndarray, "row joint 3"], truth_mm: Float[np.ndarray, "row joint 3"], skeleton: Skeleton
) -> ProtocolErrors:
    """Absolute errors, and those relative to the pelvis.

    Args:
        predicted_mm: world frame; NaN where nothing was found.
        truth_mm: world frame.
        skeleton: of both: `H36M17` (the published kind human36m), or `MPII16` (mpii), the first 16 of the same joints.

    Raises:
        TriposeError: arrays that are not of the same rows, or not of this skeleton.
    """
    _check(predicted_mm, truth_mm, skeleton)
    return ProtocolErrors(
        metrics.joint_errors(predicted_mm, truth_mm),
        metrics.relative_errors(predicted_mm, truth_mm, skeleton),
        metrics.known(truth_mm),
    )


def protocol_table(
    errors: ProtocolErrors, subject: Shaped[np.ndarray, " row"], scene: Shaped[np.ndarray, " row"]
) -> Table:
    """Errors by subject and action, mm, and which share of the joints that have a truth is missing, 0..1.

    Args:
        errors: of any rows.
        subject: of every row.
        scene: action and trial of every row; trials of an action are pooled, each with as many frames as it has.

    Returns:
        For every subject, and for `ALL` of them, a row for every action, for `ALL` frames, and for `MEAN_OF_ACTIONS`,
        which is over the actions that there are, and in each figure over those that have it.
    """
    action = np.array([name.rpartition("-")[0] or name for name in scene.tolist()], dtype=np.str_)
    table: Table = []
    for who in [*sorted(set(subject.tolist()), key=_number), ALL]:
        of_subject = (subject == who) | (who == ALL)
        each = {what: _figures(errors, of_subject & (action == what)) for what in sorted(set(action[of_subject]))}
        each[MEAN_OF_ACTIONS] = _mean_of(list(each.values()))
        each[ALL] = _figures(errors, of_subject)
        table += [{"subject": str(who), "action": str(what), **figures} for what, figures in each.items()]
    return table


def _figures(errors: ProtocolErrors, chosen: Bool[np.ndarray, " row"]) -> Row:
    absolute, relative, known = errors.absolute[chosen], errors.relative[chosen], errors.known[chosen]
    return {
        "rows": int(chosen.sum()),
        "mean_mm": metrics.mean(absolute),
        "relative_mm": metrics.mean(relative),
        "missing": metrics.missing(absolute, known),
        "relative_missing": metrics.missing(relative, known),
    }


def _mean_of(each: list[Row]) -> Row:
    result: Row = {"rows": sum(int(figures["rows"]) for figures in each)}
    for name in ("mean_mm", "relative_mm", "missing", "relative_missing"):
        values = np.array([figures[name] for figures in each], dtype=np.float64)
        result[name] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return result


def _number(subject: str) -> tuple[int, str]:
    """S9 before S11."""
    digits = "".join(c for c in subject if c.isdigit())
    return int(digits or 0), subject


def _check(predicted_mm: np.ndarray, truth_mm: np.ndarray, skeleton: Skeleton) -> None:
    for what, positions in (("predictions", predicted_mm), ("labels", truth_mm)):
        if positions.shape[1:] != (len(skeleton), 3):
            raise TriposeError(
                f"the {what} are {list(positions.shape)}, but skeleton {skeleton.name!r} has {len(skeleton)} joints of "
                "3 coordinates"
            )
    if len(predicted_mm) != len(truth_mm):
        raise TriposeError(
            f"there are predictions for {len(predicted_mm)} rows, but labels for {len(truth_mm)}: they are of another "
            "split, with or without the damaged scenes, or of every n-th frame"
        )
