"""Losses on 3D keypoints and volumes; all know which joints are valid, and have finite gradients.

Source: Iskakov et al., ICCV 2019, section 3 (equations 4 and 8) and its published code. Keypoint losses take any length
unit; the published training gives them centimetres. Joints that are not valid may be NaN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.geometry.volume import Cuboid

Keypoints = Float[Tensor, "batch joint 3"]
Valid = Bool[Tensor, "batch joint"]


def mse(predicted: Keypoints, truth: Keypoints, valid: Valid) -> Float[Tensor, ""]:
    """Mean squared error of the coordinates."""
    return _difference(predicted, truth, valid).square().sum() / _coordinates(valid)


def smooth_mse(predicted: Keypoints, truth: Keypoints, valid: Valid, threshold: float = 400.0) -> Float[Tensor, ""]:
    """MSE whose squared errors above `threshold` (squared length units) grow with the power 0.1 only."""
    squared = _difference(predicted, truth, valid).square()
    outlier = squared > threshold
    # The inner `where` keeps the gradient of the power finite at zero.
    damped = torch.where(outlier, squared, threshold) ** 0.1 * threshold**0.9
    return torch.where(outlier, damped, squared).sum() / _coordinates(valid)


def mae(predicted: Keypoints, truth: Keypoints, valid: Valid) -> Float[Tensor, ""]:
    """Mean absolute error of the coordinates."""
    return _difference(predicted, truth, valid).abs().sum() / _coordinates(valid)


def l2(predicted: Keypoints, truth: Keypoints, valid: Valid) -> Float[Tensor, ""]:
    """Mean distance; the gradient is zero where the distance is."""
    squared = _difference(predicted, truth, valid).square().sum(-1)
    apart = squared > 0
    distance = torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)
    return distance.sum() / valid.sum().clamp(min=1)


def volumetric_cross_entropy(
    logits: Float[Tensor, "batch joint voxel voxel voxel"],
    cuboid: Cuboid,
    truth_mm: Keypoints,
    valid: Valid,
    *,
    published: bool = False,
) -> Float[Tensor, ""]:
    """How unlikely a volume makes the true position: ``-log p``.

    The target is spread over the eight voxels around the truth, trilinearly; truth outside the cuboid does not count;
    the mean is over the joints that count.

    Args:
        logits: with the multiplier.
        cuboid: where the volumes are.
        truth_mm: world frame.
        valid: joints whose truth is known.
        published: as the published code: the nearest voxel of the cuboid however far, ``-log(p + 1e-6)``, and a mean
            over all joints, valid or not.
    """
    last = cuboid.voxels - 1
    index = cuboid.to_index(torch.where(valid[..., None], truth_mm, 0.0))
    if published:
        nearest = index.round().clamp(0, last).long()
        p = logits.flatten(2).softmax(-1).gather(2, _flat(nearest, cuboid.voxels)[..., None])[..., 0]
        return torch.where(valid, -(p + 1e-6).log(), 0.0).mean()
    counts = valid & (index >= 0).all(-1) & (index <= last).all(-1)
    index = torch.where(counts[..., None], index, 0.0)
    lower = index.floor().clamp(max=last - 1)
    upper_share = index - lower
    log_p = F.log_softmax(logits.flatten(2), -1)
    loss = torch.zeros_like(log_p[..., 0])
    for corner in torch.cartesian_prod(*[torch.arange(2, device=index.device)] * 3):
        share = torch.where(corner.bool(), upper_share, 1 - upper_share).prod(-1)
        at = _flat((lower + corner).long(), cuboid.voxels)
        loss = loss - share.to(log_p) * log_p.gather(2, at[..., None])[..., 0]
    return torch.where(counts, loss, 0.0).sum() / counts.sum().clamp(min=1)


def _difference(predicted: Keypoints, truth: Keypoints, valid: Valid) -> Keypoints:
    mask = valid[..., None]
    return torch.where(mask, predicted, 0.0) - torch.where(mask, truth.to(predicted), 0.0)


def _coordinates(valid: Valid) -> Tensor:
    return 3 * valid.sum().clamp(min=1)


def _flat(index: Tensor, voxels: int) -> Tensor:
    i, j, k = index.unbind(-1)
    return (i * voxels + j) * voxels + k
