"""From heatmaps to image points, and where the cells of a map lie in the image.

Sources: Sun et al., Integral human pose regression, ECCV 2018 (soft-argmax); Iskakov et al., ICCV 2019, equations 1-2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def soft_argmax(logits: Float[Tensor, "*batch rows columns"], *, relu: bool = False) -> Float[Tensor, "*batch 2"]:
    """Expected cell (x, y) of each map, float64; the centre of the top-left cell is (0, 0).

    Args:
        logits: one map per keypoint.
        relu: weigh cells by ``max(logit, 0)`` instead of their softmax; NaN (with zero gradients) where no cell is
            positive.
    """
    return integrate(logits, 2, relu=relu, normalise=True)


def integrate(logits: Tensor, dims: int, *, relu: bool, normalise: bool) -> Float[Tensor, "*batch {dims}"]:
    """Expected index along each of the last `dims` axes, float64; in the order (x, y) for maps, (i, j, k) for volumes.

    Weighs every cell through the marginals, so that no tensor of coordinates is made.

    Args:
        logits: maps or volumes.
        dims: 2 or 3.
        relu: weights ``max(logit, 0)`` instead of the softmax.
        normalise: whether relu weights are divided by their sum; where not, the result is a plain weighted sum.
    """
    weights = cell_weights(logits, dims, relu=relu)
    axes = range(-dims, 0)
    means = []
    for axis in axes:
        others = [a for a in axes if a != axis]
        marginal = weights.sum(others).double()
        means.append(marginal @ torch.arange(logits.shape[axis], dtype=torch.float64, device=logits.device))
    mean = torch.stack(means[::-1] if dims == 2 else means, -1)
    if not (relu and normalise):
        return mean
    mass = marginal.sum(-1)[..., None]
    return torch.where(mass > 0, mean / torch.where(mass > 0, mass, 1.0), torch.nan)


def cell_weights(logits: Tensor, dims: int, *, relu: bool) -> Tensor:
    """Softmax (or ``max(logit, 0)``) over the last `dims` axes, in float32 at least."""
    precise = logits if logits.dtype == torch.float64 else logits.float()
    if relu:
        return precise.relu()
    weights: Tensor = precise.flatten(-dims).softmax(-1).unflatten(-1, logits.shape[-dims:])
    return weights


def size_of(maps: Float[Tensor, "*batch rows columns"]) -> tuple[int, int]:
    """Width and height of images or maps."""
    return maps.shape[-1], maps.shape[-2]


def cell_grid(
    image_size_px: tuple[int, int], map_size: tuple[int, int], *, legacy_alignment: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the cells of a map lie: pixel = cell * scale + offset, for x and y.

    Args:
        image_size_px: width, height.
        map_size: columns, rows.
        legacy_alignment: the published system's convention, which puts cell 0 on the centre of pixel 0 instead of
            putting the left edge of cell 0 on the left edge of pixel 0.
    """
    x, y = (pixels / cells for pixels, cells in zip(image_size_px, map_size, strict=True))
    return (x, y), (0.0, 0.0) if legacy_alignment else ((x - 1) / 2, (y - 1) / 2)


def to_pixels(
    cells: Float[Tensor, "*batch 2"],
    image_size_px: tuple[int, int],
    map_size: tuple[int, int],
    *,
    legacy_alignment: bool,
) -> Float[Tensor, "*batch 2"]:
    """Map positions in cells to positions in image pixels; arguments as in `cell_grid`."""
    scale, offset = cell_grid(image_size_px, map_size, legacy_alignment=legacy_alignment)
    return cells * cells.new_tensor(scale) + cells.new_tensor(offset)
