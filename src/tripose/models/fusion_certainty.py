"""How far off a fused position may be: regions that hold the truth as often as they say."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tripose.geometry.ray_fusion import inverse_3x3

FREEDOM = 5.0
"""Degrees of freedom of the multivariate Student t distribution that errors are taken to have in training: now and then
a detector is wrong by far more than its usual error (Lange et al. 1989)."""


def distances(error: Float[Tensor, "*batch 3"], scale_matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Squared Mahalanobis distances ``e^T S^-1 e``."""
    inverse, _ = inverse_3x3(scale_matrix)
    return torch.einsum("...i,...ij,...j->...", error, inverse, error)


def spread(
    scale_matrix: Float[Tensor, "*batch joint 3 3"], unit: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch joint"]:
    """The geometric mean of a scale matrix's eigenvalues, in the square of the person's unit."""
    determinant = inverse_3x3(scale_matrix / unit[..., None, None, None] ** 2)[1]
    return determinant.clamp(min=1e-30) ** (1 / 3)


def scaled(
    scale_matrix: Float[Tensor, "*batch joint 3 3"],
    unit: Float[Tensor, "*batch"],
    factor: Float[Tensor, "*batch"],
    power: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch joint 3 3"]:
    """Scale matrices as calibrated: ``factor * spread ** power`` times as large.

    A factor alone would have to serve sure and unsure answers; networks are too sure of the former if they are too
    careful with the latter, and the power makes up for that.
    """
    more = factor[..., None] * spread(scale_matrix, unit) ** power[..., None]
    return scale_matrix * more[..., None, None]


def radius(level: float, freedom: float = FREEDOM) -> float:
    """The squared distance ``e^T S^-1 e``, with the scale matrix ``S``, that so many errors do not exceed, 0..1.

    A third of it is F(3, freedom) distributed. With a covariance ``C``, as `tripose.models.fusing.fuse` gives it, the
    squared distance ``e^T C^-1 e`` is smaller: ``radius(level, f) * (f - 2) / f`` is the limit. ``f`` is
    ``model.freedom[n]``, with the number ``n`` of views that see something of the person, at most 8.
    """
    from scipy.stats import f

    return 3 * float(f.ppf(level, 3, freedom))


def covariance_factor(freedom: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The covariance of a Student t distribution over its scale matrix."""
    return freedom / (freedom - 2)
