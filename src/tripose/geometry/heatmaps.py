"""From heatmaps to image points, and where the cells of a map lie in the image.

Sources: Sun et al., Integral human pose regression, ECCV 2018 (soft-argmax); Iskakov et al., ICCV 2019, equations 1-2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def soft_argmax(
    logits: Float[Tensor, "*batch rows columns"], *, relu: bool = False, window_cells: float | None = None
) -> Float[Tensor, "*batch 2"]:
    """Expected cell (x, y) of each map, float64; the centre of the top-left cell is (0, 0).

    Args:
        logits: one map per keypoint.
        relu: weigh cells by ``max(logit, 0)`` instead of their softmax; NaN (with zero gradients) where no cell is
            positive.
        window_cells: see `expected_cells`.
    """
    return expected_cells(cell_weights(logits, 2, relu=relu), window_cells)


def expected_cells(
    weights: Float[Tensor, "*batch rows columns"], window_cells: float | None = None
) -> Float[Tensor, "*batch 2"]:
    """Mean cell (x, y) of each map, float64; NaN (with zero gradients) where there is no weight.

    Args:
        weights: of the cells, not negative.
        window_cells: standard deviation of a Gaussian window around the mean, in which the mean is taken again; a
            second peak far away, which pulls a plain mean into the empty space between, then hardly counts. None: no
            window.
    """
    marginals = _marginals(weights, 2)
    mass = marginals[0].sum(-1)[..., None]
    some = mass > 0
    mean = _mean(marginals) / torch.where(some, mass, 1.0)
    if window_cells is not None:
        mean, _ = window_mean(weights, mean, window_cells)
    return torch.where(some, mean, torch.nan)


def window_mean(
    weights: Float[Tensor, "*batch rows columns"], middle: Float[Tensor, "*batch 2"], sigma_cells: float
) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch"]]:
    """Mean cell (x, y) of each map in a Gaussian window, float64, and how much of the map the window holds.

    Where the window is empty, the mean is its middle, with zero gradients for the map.

    Args:
        weights: of the cells, not negative.
        middle: of the window, in cells.
        sigma_cells: standard deviation of the window.
    """
    columns, rows = size_of(weights)
    x = torch.arange(columns, dtype=middle.dtype, device=middle.device) - middle[..., :1]
    y = torch.arange(rows, dtype=middle.dtype, device=middle.device) - middle[..., 1:]
    # The window is a product, so that all moments are matrix products; about the middle, which keeps small what is.
    along_x, along_y = (_window_moments(offset, sigma_cells).to(weights.dtype) for offset in (x, y))
    moments = (along_y @ weights @ along_x.mT).double()
    mass, toward_x, toward_y = moments[..., 0, 0], moments[..., 0, 1], moments[..., 1, 0]
    holds = mass > 0
    offset = torch.stack([toward_x, toward_y], -1) / torch.where(holds, mass, 1.0)[..., None]
    return middle + offset, mass


def _window_moments(offset: Float[Tensor, "*batch cell"], sigma: float) -> Float[Tensor, "*batch 2 cell"]:
    """A Gaussian window, and the window times the offset."""
    window = torch.exp(-0.5 * (offset / sigma).square())
    return torch.stack([window, window * offset], -2)


def integrate(logits: Tensor, dims: int, *, relu: bool, normalise: bool) -> Float[Tensor, "*batch {dims}"]:
    """Expected index along each of the last `dims` axes, float64; in the order (x, y) for maps, (i, j, k) for volumes.

    Weighs every cell through the marginals, so that no tensor of coordinates is made.

    Args:
        logits: maps or volumes.
        dims: 2 or 3.
        relu: weights ``max(logit, 0)`` instead of the softmax.
        normalise: whether relu weights are divided by their sum; where not, the result is a plain weighted sum.
    """
    marginals = _marginals(cell_weights(logits, dims, relu=relu), dims)
    mean = _mean(marginals)
    if not (relu and normalise):
        return mean
    mass = marginals[0].sum(-1)[..., None]
    return torch.where(mass > 0, mean / torch.where(mass > 0, mass, 1.0), torch.nan)


def spread(weights: Tensor, dims: int) -> Float[Tensor, "*batch"]:
    """Root of the variances of the index along each axis, added up, float64.

    Args:
        weights: of the cells, with sum one.
        dims: 2 for maps, 3 for volumes.
    """
    marginals = _marginals(weights, dims)
    square = torch.zeros_like(marginals[0][..., 0])
    for marginal, mean in zip(marginals, _mean(marginals).unbind(-1), strict=True):
        offset = torch.arange(marginal.shape[-1], dtype=torch.float64, device=marginal.device) - mean[..., None]
        square = square + (marginal * offset.square()).sum(-1)
    return square.sqrt()


def _marginals(weights: Tensor, dims: int) -> list[Float[Tensor, "*batch index"]]:
    """Sums over all axes but one, float64, in the order (x, y) for maps, (i, j, k) for volumes."""
    axes = list(range(-dims, 0))
    marginals = [weights.sum([a for a in axes if a != axis]).double() for axis in axes]
    return marginals[::-1] if dims == 2 else marginals


def _mean(marginals: list[Tensor]) -> Float[Tensor, "*batch axis"]:
    index = [torch.arange(m.shape[-1], dtype=torch.float64, device=m.device) for m in marginals]
    return torch.stack([m @ i for m, i in zip(marginals, index, strict=True)], -1)


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


def to_cells(
    points_px: Float[Tensor, "*batch 2"], image_size_px: tuple[int, int], map_size: tuple[int, int]
) -> Float[Tensor, "*batch 2"]:
    """The inverse of `to_pixels` (without `legacy_alignment`)."""
    scale, offset = cell_grid(image_size_px, map_size, legacy_alignment=False)
    return (points_px - points_px.new_tensor(offset)) / points_px.new_tensor(scale)
