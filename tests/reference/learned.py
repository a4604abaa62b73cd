"""Slow, readable twins of `tripose.models`: the published pipeline with loops over samples, views and joints.

Iskakov et al., Learnable triangulation of human pose, ICCV 2019. The networks are those of the model that is given, in
evaluation mode; everything else is done here, in the type of the images: pixel i is coordinate i, P in mm to px,
float32 throughout where the images are. Only for models with ``legacy_alignment``.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import least_squares

from reference.triangulate import dlt_point
from reference.volumes import coordinate_volume, integrate_volumes, unproject_heatmaps
from tripose.models.views import normalise

UP_VECTOR = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1), "-x": (-1, 0, 0), "-y": (0, -1, 0), "-z": (0, 0, -1)}
# (up of the model, up of the world): what the published transfer from one to the other is right for.
TRANSFER = {("-y", "z"), ("-z", "-y")}


# --- Heatmaps --------------------------------------------------------------------------------------------------------


def soft_argmax(logits, relu=False):
    """Expected cells (x, y) of maps [..., rows, columns], and the weights of the cells."""
    rows, columns = logits.shape[-2:]
    weights = logits.relu() if relu else logits.flatten(-2).softmax(-1).view_as(logits)
    x = (weights.sum(-2) * torch.arange(columns).to(logits)).sum(-1)
    y = (weights.sum(-1) * torch.arange(rows).to(logits)).sum(-1)
    cells = torch.stack([x, y], -1)
    return cells / weights.sum((-2, -1))[..., None] if relu else cells, weights


def expected_index(logits, relu=False, normalised=True):
    """The same for one map or volume, cell by cell, in the order of the axes (y, x for a map)."""
    highest = logits.max().detach()
    mass, moment = 0.0, [0.0] * logits.ndim
    for cell in itertools.product(*map(range, logits.shape)):
        weight = logits[cell].clamp(min=0) if relu else (logits[cell] - highest).exp()
        mass = mass + weight
        moment = [m + i * weight for m, i in zip(moment, cell, strict=True)]
    return torch.stack(moment) / mass if normalised else torch.stack(moment)


# --- Triangulation ---------------------------------------------------------------------------------------------------


def triangulate_point(P, points_px, confidence):
    """Weighted DLT of one point, [view, 3, 4] and [view, 2] and [view] to [3] mm: an SVD of the raw rows."""
    rows = confidence[:, None, None] * (points_px[:, :, None] * P[:, 2:] - P[:, :2])
    X = torch.linalg.svd(rows.flatten(0, 1), full_matrices=False)[2][-1]
    return X[:3] / X[3]


def triangulate_batch(P, points_px, confidence):
    """[batch, view, 3, 4], [batch, view, joint, 2] and [batch, view, joint] to [batch, joint, 3] mm."""
    batch, _, joints = confidence.shape
    return torch.stack(
        [
            torch.stack([triangulate_point(P[b], points_px[b, :, j], confidence[b, :, j]) for j in range(joints)])
            for b in range(batch)
        ]
    )


class Consensus(NamedTuple):
    """What RANSAC says of a point."""

    position_mm: np.ndarray
    views: tuple[int, ...]
    truncated_cost: float  # of the pair that proposed: mean over views of min(error, 30 px)^2 / (30 px)^2


def errors_px(P, points_px, X, behind=math.inf):
    """Distances between points [view, 2] and reprojections; `behind`: of a point behind the camera (None: as is)."""
    projected = P @ np.append(X, 1.0)
    distance = np.linalg.norm(projected[:, :2] / projected[:, 2:] - points_px, axis=1)
    return distance if behind is None else np.where(projected[:, 2] > 0, distance, behind)


def ransac_point(P, points_px, pairs, *, first, refine, behind=math.inf):
    """The largest consensus of pairs of views: the pair, and who errs by less than 30 px from its DLT.

    Args:
        P: [view, 3, 4] mm to px.
        points_px: [view, 2].
        pairs: who proposes.
        first: whether the first of equally large sets wins, as published, or that with the smallest truncated cost.
        refine: whether a Huber loss on half the distances (px) of the set is minimised at the end.
        behind: see `errors_px`; published: None.
    """
    best, best_cost = (), math.inf
    for pair in pairs:
        X = dlt_point(P[list(pair)], points_px[list(pair)], np.ones(2))
        error = errors_px(P, points_px, X, behind)
        views = tuple(v for v in range(len(P)) if v in pair or error[v] < 30)
        cost = float(np.mean(np.minimum(error / 30, 1) ** 2))
        if len(views) > len(best) or (len(views) == len(best) and not first and cost < best_cost):
            best, best_cost = views, cost
    of_set = P[list(best)], points_px[list(best)]
    X = dlt_point(*of_set, np.ones(len(best)))
    if refine:
        X = least_squares(lambda x: errors_px(*of_set, x, behind=None) / 2, X, loss="huber", method="trf").x
    return Consensus(X, best, best_cost)


def published_ransac(P, points_px, random, refine):
    """Ten pairs drawn with repetition from `random` (a `random.Random`)."""
    pairs = [sorted(random.sample(range(len(P)), 2)) for _ in range(10)]
    return ransac_point(P, points_px, pairs, first=True, refine=refine, behind=None)


def exhaustive_ransac(P, points_px, refine):
    """Every pair once."""
    return ransac_point(P, points_px, itertools.combinations(range(len(P)), 2), first=False, refine=refine)


def huber_cost(half_errors):
    """Half the sum of ``r^2``, that turns linear at 1: what the refinement minimises."""
    r = np.asarray(half_errors)
    return float(np.where(r <= 1, r**2, 2 * r - 1).sum() / 2)


# --- Whole frames ----------------------------------------------------------------------------------------------------


class AlgebraicFrame(NamedTuple):
    keypoints_mm: torch.Tensor
    keypoints_px: torch.Tensor
    confidence: torch.Tensor
    heatmaps: torch.Tensor  # softmaxed (or rectified)


class VolumetricFrame(NamedTuple):
    keypoints_mm: torch.Tensor
    unprojected: torch.Tensor
    logits: torch.Tensor
    volumes: torch.Tensor  # softmaxed (or rectified)
    coordinates_mm: torch.Tensor


def algebraic_frame(model, images, cameras):
    """The published algebraic method: [batch, view, 3, height, width] RGB to positions."""
    config = model.config
    _must_be_legacy(config)
    batch, views, _, height, width = images.shape
    seen = model.backbone(normalise(images.flatten(0, 1), config))
    cells, heatmaps = soft_argmax(seen.heatmaps.unflatten(0, (batch, views)) * config.multiplier, not config.softmax)
    rows, columns = heatmaps.shape[-2:]
    points_px = cells * cells.new_tensor([width / columns, height / rows])
    confidence = torch.ones_like(cells[..., 0])
    if seen.joint_confidence is not None:
        confidence = seen.joint_confidence.unflatten(0, (batch, views))
    confidence = confidence / confidence.sum(1, keepdim=True) + 1e-5
    P = _projections(cameras, images)
    return AlgebraicFrame(triangulate_batch(P, points_px, confidence), points_px, confidence, heatmaps)


def volumetric_frame(model, images, cameras, center_mm, yaw_rad=None):
    """The published volumetric method; `yaw_rad` [batch]: counter-clockwise, seen from above."""
    config = model.config
    _must_be_legacy(config)
    batch, views, _, height, width = images.shape
    seen = model.backbone(normalise(images.flatten(0, 1), config))
    features = model.process_features(seen.features).unflatten(0, (batch, views))
    rows, columns = features.shape[-2:]
    P = _projections(cameras, images) * images.new_tensor([columns / width, rows / height, 1])[:, None]
    confidence = seen.channel_confidence
    if confidence is not None:
        confidence = confidence.unflatten(0, (batch, views))
        if config.aggregation == "conf_norm":
            confidence = confidence / confidence.sum(1, keepdim=True)
    up, transfer = cameras.up or config.up, cameras.up is not None and config.up not in (None, cameras.up)
    if transfer and (config.up, cameras.up) not in TRANSFER:
        raise ValueError(f"the published code does not stand a model with {config.up!r} up into {cameras.up!r} up")
    yaw_rad = [0.0] * batch if yaw_rad is None else yaw_rad
    coordinates_mm = torch.stack(
        [
            coordinate_volume(
                center.to(images), config.side_mm, config.voxels, UP_VECTOR[up or "z"], float(yaw), transfer
            )
            for center, yaw in zip(center_mm, yaw_rad, strict=True)
        ]
    )
    unprojected = unproject_heatmaps(features, P, coordinates_mm, config.aggregation, confidence)
    logits = model.volume_net(unprojected) * config.multiplier
    keypoints_mm, volumes = integrate_volumes(logits, coordinates_mm, relu=not config.softmax)
    return VolumetricFrame(keypoints_mm, unprojected, logits, volumes, coordinates_mm)


def _projections(cameras, images):
    P = cameras.P.to(images)
    return P if P.ndim == 4 else P.expand(len(images), *P.shape)


def _must_be_legacy(config):
    if not config.legacy_alignment:
        raise ValueError("the published pipeline needs a model with legacy_alignment")


# --- Losses ----------------------------------------------------------------------------------------------------------


def keypoint_loss(name, predicted, truth, valid, threshold=400.0):
    """``mse``, ``smooth_mse``, ``mae`` or ``l2`` of [batch, joint, 3], one coordinate at a time."""
    total, joints = 0.0, 0
    for sample, joint in itertools.product(*map(range, valid.shape)):
        if not valid[sample, joint]:
            continue
        joints += 1
        difference = predicted[sample, joint] - truth[sample, joint]
        if name == "l2":
            total = total + difference.norm()
            continue
        for d in difference:
            if name == "mae":
                total = total + d.abs()
            elif name == "smooth_mse" and d * d > threshold:
                total = total + (d * d) ** 0.1 * threshold**0.9
            else:
                total = total + d * d
    return total / (max(1, joints) * (1 if name == "l2" else 3))
