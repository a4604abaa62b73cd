"""The same person across views and time.

Every pair of detections in two views proposes a body; all views vote for the proposals by reprojection; the best
supported body wins, preferably the one that was followed so far, else the one in the middle of the rig. Detections of
other people stay without a match, and two people are never averaged: a view that shows somebody else does not agree.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tripose.cameras import Cameras
from tripose.geometry.triangulate import triangulate, usual_error_px

# A detection belongs to a body when its joints lie within this many usual errors (1 % of the image side) on average.
_GATE = 6.0
# Share of the detection's confidence that must lie inside the gate.
_AGREEMENT = 0.4
# How far a body may have moved since it was seen, mm (standard deviation of a soft preference).
_REACH_MM = 500.0
# Views whose detections propose bodies (those that see most); all views vote. 8 views with 6 people make 1008 pairs.
_MOST_PROPOSERS = 8


@dataclass(frozen=True)
class Match:
    """One body found in several views of one moment.

    Attributes:
        person: for each view the index of the detection that shows the body, or -1.
        position_mm: joints of the body, world frame; NaN where fewer than two views agree.
        support: votes: one for each view whose detection agrees completely.
    """

    person: Int[np.ndarray, " view"]
    position_mm: Float[np.ndarray, "joint 3"]
    support: float


def find_person(
    cameras: Cameras,
    points_px: Float[np.ndarray, "view person joint 2"],
    confidence: Float[np.ndarray, "view person joint"],
    previous_mm: Float[np.ndarray, "joint 3"] | None = None,
) -> Match | None:
    """Find the one body that the views agree on.

    Args:
        cameras: the rig.
        points_px: everybody's keypoints in every view, raw pixels; NaN = missing.
        confidence: their scores, 0..1.
        previous_mm: where the followed person was last seen; None chooses the person in the middle of the rig.

    Returns:
        The match, or None when no two views agree.
    """
    raw = torch.as_tensor(points_px, dtype=torch.float64)
    # Once through the lens; everything below happens in ideal pixels.
    points = cameras.undistort(raw.flatten(1, 2)).reshape(raw.shape)
    cameras = cameras.undistorted()
    score = torch.where(torch.isfinite(points).all(-1), torch.as_tensor(confidence, dtype=torch.float64), 0.0)
    score = torch.nan_to_num(score, nan=0.0)
    pairs = _pairs(score)
    if not pairs:
        return None
    proposals = _propose(cameras, points, score, pairs)
    agreement = _agreement(cameras, points, score, proposals)
    best_person = agreement.argmax(1)
    votes = agreement.amax(1)
    votes = torch.where(votes >= _AGREEMENT, votes, 0.0)
    # The two proposing detections must be among the supporters: otherwise their own rays miss each other.
    proposed = torch.tensor(pairs)
    for view, person in ((proposed[:, 0], proposed[:, 1]), (proposed[:, 2], proposed[:, 3])):
        column = torch.arange(len(pairs))
        same = (best_person[view, column] == person) & (votes[view, column] > 0)
        votes = votes * same
    support = votes.sum(0) * _preference(cameras, proposals, previous_mm)
    winner = int(support.argmax())
    if not float(support[winner]) > 0:
        return None
    person = torch.where(votes[:, winner] > 0, best_person[:, winner], -1)
    return _settle(cameras, points, score, person)


def _pairs(score: Tensor) -> list[tuple[int, int, int, int]]:
    """(view, person, view, person) of all pairs of detections in different views, of the views that see most."""
    enough = (score > 0).sum(-1) >= min(3, score.shape[-1])
    order = (score.sum(-1) * enough).sum(-1).argsort(descending=True, stable=True)[:_MOST_PROPOSERS].tolist()
    seen = [(v, p) for v in sorted(order) for p in range(score.shape[1]) if enough[v, p]]
    return [(*a, *b) for a, b in itertools.combinations(seen, 2) if a[0] != b[0]]


def _propose(
    cameras: Cameras, points: Tensor, score: Tensor, pairs: list[tuple[int, int, int, int]]
) -> Float[Tensor, "pair joint 3"]:
    index = torch.tensor(pairs)
    column = torch.arange(len(pairs))
    proposed = torch.full((len(pairs), points.shape[0], *points.shape[2:]), torch.nan, dtype=torch.float64)
    weight = torch.zeros(proposed.shape[:-1], dtype=torch.float64)
    for view, person in ((index[:, 0], index[:, 1]), (index[:, 2], index[:, 3])):
        proposed[column, view] = points[view, person]
        weight[column, view] = score[view, person]
    return triangulate(cameras, proposed, weight, method="dlt", covariance=False).position_mm


def _agreement(
    cameras: Cameras, points: Tensor, score: Tensor, bodies: Float[Tensor, "body joint 3"]
) -> Float[Tensor, "view person body"]:
    """How much of each detection's confidence lies near each body's reprojection, 0..1."""
    projected, _ = cameras.project(bodies.flatten(0, 1))
    projected = projected.unflatten(1, bodies.shape[:2])
    distance = (projected[:, None] - points[:, :, None]).norm(dim=-1)
    gate_px = _GATE * usual_error_px(cameras)
    near = torch.nan_to_num(1.0 - (distance / gate_px).square(), nan=0.0).clamp(min=0.0)
    weight = score[:, :, None]
    total = weight.sum(-1)
    # Fewer than five joints say little about a body; dividing by at least that many keeps a lone hand from a full vote.
    share: Tensor = (near * weight).sum(-1) / torch.where(total > 0, total, 1.0)
    return share * ((near > 0).sum(-1) / min(5.0, points.shape[-2])).clamp(max=1.0)


def _preference(
    cameras: Cameras, bodies: Float[Tensor, "body joint 3"], previous_mm: Float[np.ndarray, "joint 3"] | None
) -> Float[Tensor, " body"]:
    """Prefer the followed person where there is one, else the body nearest to where the cameras look."""
    if previous_mm is not None:
        distance = (bodies - torch.as_tensor(previous_mm)).norm(dim=-1).nanmedian(-1).values
        near = torch.nan_to_num(torch.exp(-0.5 * (distance / _REACH_MM).square()), nan=0.0)
        # Whoever is farther away is somebody else; the followed person is hidden, and nobody beats a bystander.
        return torch.where(distance <= 2 * _REACH_MM, near, 0.0)
    centre, radius = middle_mm(cameras)
    distance = (bodies - centre).norm(dim=-1).nanmedian(-1).values
    return torch.nan_to_num(torch.exp(-0.5 * (distance / (0.5 * radius)).square()), nan=0.0)


def middle_mm(cameras: Cameras) -> tuple[Float[Tensor, 3], Float[Tensor, ""]]:
    """The point nearest to all optical axes, world frame, and the median distance of the cameras from it, mm."""
    axis = cameras.R[:, 2]
    across = torch.eye(3, dtype=axis.dtype) - axis[:, :, None] * axis[:, None, :]
    centers = cameras.centers_mm
    # A little of the identity keeps parallel axes solvable: the answer then stays near the cameras.
    pull = 1e-3 * torch.eye(3, dtype=axis.dtype)
    right = (across @ centers[..., None])[..., 0].sum(0) + pull @ centers.mean(0)
    middle: Tensor = torch.linalg.solve(across.sum(0) + pull, right)
    return middle, (centers - middle).norm(dim=-1).median().clamp(min=1.0)


def _settle(cameras: Cameras, points: Tensor, score: Tensor, person: Tensor) -> Match | None:
    """Triangulate the matched detections robustly, let every view choose again, and triangulate once more."""
    view = torch.arange(len(person))
    position = torch.empty(0)
    for _ in range(2):
        chosen = torch.where((person >= 0)[:, None, None], points[view, person.clamp(min=0)], torch.nan)
        weight = score[view, person.clamp(min=0)]
        position = triangulate(cameras, chosen, weight, method="irls", covariance=False).position_mm
        agreement = _agreement(cameras, points, score, position[None])[..., 0]
        votes, again = agreement.max(1)
        person = torch.where(votes >= _AGREEMENT, again, -1)
        if int((person >= 0).sum()) < 2:
            return None
    return Match(person.numpy(), position.numpy(), float(votes[person >= 0].sum()))
