"""More opinions on where joints are than one look at an image gives, for heatmaps that are probabilities.

A flip test; and a detector's keypoints, as a product of experts: two networks, of which one learned from photographs
and one from rendered people, fail at different joints of different images. What they gain on real recordings is in
``docs/training-log.md``.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tripose.geometry.heatmaps import to_cells
from tripose.models.algebraic import AlgebraicTriangulation
from tripose.models.evidence import EvidenceTriangulation

# How far keypoints are off, in px of a crop of 256; and how likely, beside their confidence, they are somewhere else.
_SIGMA_PX, _CROP_PX = 6.0, 256
_ELSEWHERE = 0.1


def flip_test(
    model: AlgebraicTriangulation | EvidenceTriangulation, images: Float[Tensor, "1 view 3 height width"]
) -> tuple[Tensor, ...]:
    """The model's `encode_views`; heatmaps are the mean logarithm for the images and for their mirror images."""
    heatmaps, *rest = model.encode_views(torch.cat([images, images.flip(-1)]))
    mirrored = heatmaps[1:].flip(-1)[:, :, model.config.joints.mirror]
    both = [h.float().flatten(-2).log_softmax(-1).unflatten(-1, h.shape[-2:]) for h in (heatmaps[:1], mirrored)]
    return (both[0] + both[1]) / 2, *(r[:1] for r in rest)


def add_keypoints(
    heatmaps: Float[Tensor, "view joint rows columns"],
    points_px: Float[np.ndarray, "view joint 2"],
    confidence: Float[np.ndarray, "view joint"],
    image_size_px: tuple[int, int],
) -> Float[Tensor, "view joint rows columns"]:
    """Heatmaps that also know what another detector has seen, as if it was independent: probabilities are multiplied.

    The detector's is a Gaussian, ``0.1 + confidence * exp(-d^2 / (2 sigma^2))``: it decides between peaks, and moves a
    wide one; where it is alone with what it says, the heatmap decides.

    Args:
        heatmaps: logarithms of probabilities, each up to a constant.
        points_px: keypoints, pixels of the crop; NaN or far outside where there is none.
        confidence: of the keypoints, 0..1; NaN counts as 0.
        image_size_px: width, height of the crops.
    """
    rows, columns = heatmaps.shape[-2:]
    points = torch.from_numpy(points_px).to(heatmaps)
    certain = torch.from_numpy(confidence).to(heatmaps).nan_to_num(0.0) * points.isfinite().all(-1)
    cells = to_cells(points.nan_to_num(0.0), image_size_px, (columns, rows))
    sigma = _SIGMA_PX * columns / _CROP_PX
    along = [
        torch.exp(-0.5 * ((torch.arange(n).to(cells) - cells[..., axis, None]) / sigma).square())
        for axis, n in enumerate((columns, rows))
    ]
    seen = certain[..., None, None] * along[1][..., :, None] * along[0][..., None, :]
    return heatmaps + torch.log(_ELSEWHERE + seen)
