"""Losses on heatmaps, 3D keypoints and volumes; all know which joints are valid, and have finite gradients.

Source: Iskakov et al., ICCV 2019, section 3 (equations 4 and 8) and its published code. Keypoint losses take any length
unit; the published training gives them centimetres. Joints that are not valid may be NaN. `robust_distance` and the
losses on heatmaps are those of the models that are trained here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.geometry.heatmaps import cell_grid, size_of, soft_argmax, to_pixels
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


def robust_distance(
    predicted: Keypoints, truth: Keypoints, valid: Valid, *, smooth: float = 10.0, cap: float = 1000.0
) -> Float[Tensor, ""]:
    """Mean of ``sqrt(d^2 + smooth^2)`` of the distances ``d``, at most `cap`, beyond which there is no gradient.

    Grows with the distance itself, so that the many small errors count beside the few gross ones.

    Args:
        predicted: NaN where the views do not determine a joint, which then does not count.
        truth: NaN where it is unknown.
        valid: joints whose truth is known.
        smooth: below it, the loss is quadratic. The defaults are for millimetres.
        cap: largest loss of a joint.
    """
    valid = valid & predicted.isfinite().all(-1)
    squared = _difference(predicted, truth, valid).square().sum(-1)
    distance = (squared + smooth**2).sqrt().clamp(max=cap)
    return torch.where(valid, distance, 0.0).sum() / valid.sum().clamp(min=1)


def heatmap_cross_entropy(
    logits: Float[Tensor, "batch view joint rows columns"],
    truth_px: Float[Tensor, "batch view joint 2"],
    valid: Bool[Tensor, "batch view joint"],
    image_size_px: tuple[int, int],
    *,
    sigma_px: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of heatmaps with a Gaussian around the true keypoint, mean over the keypoints inside the image.

    Teaches the softmax of a heatmap to be a probability: how far the keypoint may be from the peak.

    Args:
        logits: with the multiplier.
        truth_px: pixels of the crop; NaN where unknown.
        valid: keypoints that are known; those outside the image do not count.
        image_size_px: width, height of the crop.
        sigma_px: standard deviation of the target; 6 for crops of 256 px.
    """
    counts, truth_px = _inside(truth_px, valid, image_size_px)
    scales, offsets = cell_grid(image_size_px, size_of(logits), legacy_alignment=False)
    along_x, along_y = (
        F.softmax(-0.5 * ((torch.arange(n, device=truth_px.device) * scale + offset - at) / sigma_px).square(), -1)
        for n, scale, offset, at in zip(size_of(logits), scales, offsets, truth_px.split(1, -1), strict=True)
    )
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # The target is a product of two Gaussians with sum one, so that its mean of the logits needs no map of its own.
    expected = along_y.to(precise)[..., None, :] @ precise @ along_x.to(precise)[..., None]
    loss = precise.flatten(-2).logsumexp(-1) - expected[..., 0, 0]
    return torch.where(counts, loss, 0.0).sum() / counts.sum().clamp(min=1)


def soft_argmax_l1(
    logits: Float[Tensor, "batch view joint rows columns"],
    truth_px: Float[Tensor, "batch view joint 2"],
    valid: Bool[Tensor, "batch view joint"],
    image_size_px: tuple[int, int],
    *,
    beta_px: float = 4.0,
) -> Float[Tensor, ""]:
    """Smooth L1 of the distance (sum of its axes) between soft-argmax and true keypoint, mean as in the cross-entropy.

    Args:
        logits: with the multiplier.
        truth_px: pixels of the crop; NaN where unknown.
        valid: keypoints that are known; those outside the image do not count.
        image_size_px: width, height of the crop.
        beta_px: distance from which on the loss is linear.
    """
    counts, truth_px = _inside(truth_px, valid, image_size_px)
    found_px = to_pixels(soft_argmax(logits), image_size_px, size_of(logits), legacy_alignment=False)
    distance = (found_px - truth_px).abs().sum(-1)
    loss = F.smooth_l1_loss(distance, torch.zeros_like(distance), reduction="none", beta=beta_px)
    return torch.where(counts, loss, 0.0).sum() / counts.sum().clamp(min=1)


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


def _inside(
    truth_px: Float[Tensor, "batch view joint 2"], valid: Bool[Tensor, "batch view joint"], size_px: tuple[int, int]
) -> tuple[Bool[Tensor, "batch view joint"], Float[Tensor, "batch view joint 2"]]:
    """Which keypoints are known and inside the image, and where; a harmless place for the others."""
    truth_px = truth_px.double()
    counts = valid & ((truth_px > -0.5) & (truth_px < truth_px.new_tensor(size_px) - 0.5)).all(-1)
    return counts, torch.where(counts[..., None], truth_px, 0.0)


def _coordinates(valid: Valid) -> Tensor:
    return 3 * valid.sum().clamp(min=1)


def _flat(index: Tensor, voxels: int) -> Tensor:
    i, j, k = index.unbind(-1)
    return (i * voxels + j) * voxels + k
