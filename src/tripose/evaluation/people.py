"""Precision and recall of several people: the measures of the multi-person protocol of CMU Panoptic.

Tu et al., "VoxelPose", ECCV 2020; `evaluate` in lib/dataset/panoptic.py of microsoft/voxelpose-pytorch. In every frame
that has a truth, each predicted person is assigned to the true one with the smallest mean distance of joints. By
falling score, all frames together, the first within a threshold of a true person is a hit, and all others are wrong.

Two cases that the published code does not have. Joints may be missing: distances are means over those that both people
have, and a predicted person with less than half of the true one's does not match. Scores may be equal: such people
count together, whatever their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tripose.data.panoptic.protocol import MULTI_PERSON
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.evaluation.markdown import mm, percent
from tripose.evaluation.tables import ALL, Row, Table
from tripose.pose import Pose3D
from tripose.skeleton import PANOPTIC19, Skeleton

THRESHOLDS_MM = (25.0, 50.0, 75.0, 100.0, 125.0, 150.0)
"""Of the average precisions."""

RECALL_MM = 500.0
"""Of recall, and of the people whose distances MPJPE is the mean of."""

LEAST_SHARE = 0.5
"""Share of a true person's joints that a predicted one must have to be compared: one lucky wrist is nobody."""


@dataclass(frozen=True)
class Matches:
    """Predicted people, each with the true one of its frame that is nearest.

    Attributes:
        distance_mm: mean over the joints that both have; infinite where these are too few.
        score: mean confidence, 0 where none is known.
        truth: number of the true person, from 0.
        missing: share of the true person's joints that the predicted one does not have.
        people: how many true people there are.
    """

    distance_mm: Float[np.ndarray, " found"]
    score: Float[np.ndarray, " found"]
    truth: Int[np.ndarray, " found"]
    missing: Float[np.ndarray, " found"]
    people: int


def shared_joints(found: Sequence[Skeleton], truth: Skeleton) -> tuple[str, ...]:
    """The joints that all have and that count, by name: of CMU Panoptic's 19 the 15 of the protocol, else all."""
    counted = MULTI_PERSON.joints if truth == PANOPTIC19 else truth.joints
    return tuple(joint for joint in counted if all(joint in skeleton.joints for skeleton in found))


def match_people(poses: Pose3D, scene: Scene, joints: Sequence[str]) -> Matches:
    """Assign the predicted people of all frames that have a truth to the true ones.

    Args:
        poses: frame i is number i of the scene; the last number of the scene is there.
        scene: the truth; people of one moment are rows with the same number.
        joints: those that count; both have them. Who has none of them, predicted or true, is not there.

    Raises:
        TriposeError: the scene has nobody.
    """
    truth_mm = scene.keypoints_mm[:, scene.skeleton.indices(joints)]
    there = np.isfinite(truth_mm).all(-1).any(1)
    if not there.any():
        raise TriposeError(f"the scene {scene.name!r} has no truth: no joint of anybody is known")
    found_mm, confidence = (a[:, :, poses.skeleton.indices(joints)] for a in (poses.position_mm, poses.confidence))
    numbers, first = np.unique(scene.frame[there], return_index=True)
    moments = zip(numbers, np.split(truth_mm[there], first[1:]), strict=True)  # frames ascend
    return pool([match_moment(found_mm[number], confidence[number], people) for number, people in moments])


def match_moment(
    found_mm: Float[np.ndarray, "found joint 3"],
    confidence: Float[np.ndarray, "found joint"],
    truth_mm: Float[np.ndarray, "truth joint 3"],
) -> Matches:
    """Assign predicted people to true ones; each of these, at least one, has a known joint."""
    found, known = (np.isfinite(positions).all(-1) for positions in (found_mm, truth_mm))
    there = found.any(1)
    found_mm, confidence, found = found_mm[there], confidence[there], found[there]
    distance_mm = np.linalg.norm(found_mm[:, None] - truth_mm, axis=-1)
    share = np.isfinite(distance_mm).sum(-1) / known.sum(-1)
    mean_mm = np.where(share >= LEAST_SHARE, _mean(distance_mm), np.inf)
    nearest, each = mean_mm.argmin(1), np.arange(len(mean_mm))
    return Matches(
        distance_mm=mean_mm[each, nearest],
        score=_mean(np.where(found, confidence, np.nan)).round(9),  # the same confidence at more joints is a tie
        truth=nearest,
        missing=1 - share[each, nearest],
        people=len(truth_mm),
    )


def pool(parts: Sequence[Matches]) -> Matches:
    """The matches of several moments, or scenes, as one."""
    before = np.cumsum([0, *(part.people for part in parts)])
    return Matches(
        distance_mm=np.concatenate([part.distance_mm for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        truth=np.concatenate([part.truth + n for part, n in zip(parts, before[:-1], strict=True)]),
        missing=np.concatenate([part.missing for part in parts]),
        people=int(before[-1]),
    )


def _mean(values: Float[np.ndarray, "*batch joint"]) -> Float[np.ndarray, "*batch"]:
    """Over the joints that have a value; 0 where none has."""
    has = np.isfinite(values)
    mean: Float[np.ndarray, "*batch"] = np.where(has, values, 0.0).sum(-1) / np.maximum(has.sum(-1), 1)
    return mean


# --- Figures ----------------------------------------------------------------------------------------------------------


def hits(matches: Matches, threshold_mm: float) -> Int[np.ndarray, " hit"]:
    """The predicted people who are hits: of each true person within the threshold the one with the highest score."""
    order = np.lexsort((matches.distance_mm, -matches.score))
    near = order[matches.distance_mm[order] < threshold_mm]
    first: Int[np.ndarray, " hit"] = near[np.unique(matches.truth[near], return_index=True)[1]]
    return first


def average_precision(matches: Matches, threshold_mm: float) -> float:
    """Area under precision over recall, where every precision is the best at this recall or beyond."""
    order = np.argsort(-matches.score)
    is_hit = np.isin(order, hits(matches, threshold_mm))
    ends = np.flatnonzero(np.diff(matches.score[order], append=np.nan))  # of people with equal scores the last
    n_hits = is_hit.cumsum()[ends]
    precision = np.maximum.accumulate((n_hits / (ends + 1))[::-1])[::-1]
    return float((np.diff(n_hits, prepend=0) * precision).sum() / matches.people)


def figures(matches: Matches) -> Row:
    """Everything that is published, shares in 0..1, and the share of joints that MPJPE does not know of."""
    matched = hits(matches, RECALL_MM)
    return {
        "people": matches.people,
        "found": len(matches.score),
        **{f"ap_{t:.0f}mm": average_precision(matches, t) for t in THRESHOLDS_MM},
        f"recall_{RECALL_MM:.0f}mm": len(matched) / matches.people,
        "mpjpe_mm": float(matches.distance_mm[matched].mean()) if len(matched) else math.nan,
        "missing": float(matches.missing[matched].mean()) if len(matched) else math.nan,
    }


def people_table(scenes: Mapping[str, Matches]) -> Table:
    """A row of figures for each scene; where there are several, also for all as one."""
    table: Table = [{"scene": name, **figures(matches)} for name, matches in scenes.items()]
    return table if len(table) == 1 else [*table, {"scene": ALL, **figures(pool(list(scenes.values())))}]


_COLUMNS: Sequence[tuple[str, str, Callable[[str | int | float], str]]] = (
    *((name, name, str) for name in ("scene", "people", "found")),
    *((f"AP@{t:.0f}", f"ap_{t:.0f}mm", percent) for t in THRESHOLDS_MM),
    (f"recall@{RECALL_MM:.0f}", f"recall_{RECALL_MM:.0f}mm", percent),
    ("MPJPE", "mpjpe_mm", mm),
    ("missing", "missing", percent),
)


def people_cells(table: Table) -> list[list[str]]:
    """The table as text, its head first."""
    return [[head for head, _, _ in _COLUMNS], *([show(row[key]) for _, key, show in _COLUMNS] for row in table)]
