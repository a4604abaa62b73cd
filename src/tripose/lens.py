"""Lens distortion and its inverse on normalised image coordinates, for OpenCV's standard and fisheye models.

The formulas are kornia's, differentiable and batched. What is added here is the answer to "can this point be
inverted at all?": a polynomial lens model folds back on itself outside the area it was calibrated for, and an
iteration then converges to nonsense or not at all. Such points become NaN.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Lens = Literal["pinhole", "opencv", "fisheye"]
LENS_COEFFICIENTS = (0, 2, 4, 5, 8, 12, 14)
"""Legal numbers of coefficients of OpenCV's standard model; two are ``k1 k2``."""

# The fixed-point iteration comes near; Newton steps finish, and are few where the lens is tame.
_FIXED_POINT_STEPS = 5
_NEWTON_STEPS = 6
# Largest round-trip error of an accepted inverse, in focal lengths: 1e-6 px at f = 1000 px.
_TOLERANCE = 1e-9


def to_normalised(
    points_px: Float[Tensor, "*batch point 2"], K: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch point 2"]:
    """Remove the intrinsics: pixels to the plane ``z = 1`` of the camera."""
    y = (points_px[..., 1] - K[..., 1, 2, None]) / K[..., 1, 1, None]
    x = (points_px[..., 0] - K[..., 0, 2, None] - K[..., 0, 1, None] * y) / K[..., 0, 0, None]
    return torch.stack([x, y], -1)


def to_pixels(
    points: Float[Tensor, "*batch point 2"], K: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch point 2"]:
    """Apply the intrinsics: the plane ``z = 1`` of the camera to pixels."""
    return points @ K[..., :2, :2].mT + K[..., None, :2, 2]


def distort(
    points: Float[Tensor, "*batch point 2"], coefficients: Float[Tensor, "*batch 14"], lens: Lens
) -> Float[Tensor, "*batch point 2"]:
    """Bend ideal normalised points as the lens does.

    Args:
        points: ideal positions on the plane ``z = 1``.
        coefficients: OpenCV order, zero-padded; the first four for a fisheye lens.
        lens: which model.
    """
    if lens == "pinhole":
        return points
    if lens == "fisheye":
        from kornia.geometry.camera.distortion_kannala_brandt import distort_points_kannala_brandt

        result: Tensor = distort_points_kannala_brandt(points, _fisheye_parameters(coefficients))
        return result
    from kornia.geometry.calibration import distort_points

    bent: Tensor = distort_points(points, _identity(points), coefficients.to(points))
    return bent


def undistort(
    points: Float[Tensor, "*batch point 2"], coefficients: Float[Tensor, "*batch 14"], lens: Lens
) -> Float[Tensor, "*batch point 2"]:
    """Invert `distort`; NaN where no inverse exists inside the lens model's monotone area.

    Accepted points satisfy ``distort(undistort(p)) = p`` within 1e-9 focal lengths and lie where the model has not
    folded back (positive Jacobian determinant). Computed in float64, whatever the type of the points.
    """
    if lens == "pinhole":
        return points
    exact, known = points.to(torch.float64), coefficients.to(torch.float64)
    with torch.no_grad():
        ideal, inverse, valid = _invert(exact, known, lens)
    # One last Newton step, the only one with gradients: by the implicit function theorem they are those of the
    # inverse, however it was found.
    ideal = ideal - _times(inverse, distort(ideal, known, lens) - exact)
    return torch.where(valid[..., None], ideal, torch.nan).to(points.dtype)


def _invert(
    points: Tensor, coefficients: Tensor, lens: Lens
) -> tuple[Float[Tensor, "*batch point 2"], Float[Tensor, "*batch point 2 2"], Bool[Tensor, "*batch point"]]:
    """The inverse, the inverse Jacobian there, and where both exist; elsewhere zeros and the identity."""
    if lens == "fisheye":
        from kornia.geometry.camera.distortion_kannala_brandt import undistort_points_kannala_brandt

        ideal: Tensor = undistort_points_kannala_brandt(points, _fisheye_parameters(coefficients))
    else:
        from kornia.geometry.calibration import undistort_points

        ideal = undistort_points(points, _identity(points), coefficients, num_iters=_FIXED_POINT_STEPS)
    for _ in range(_NEWTON_STEPS):
        error = distort(ideal, coefficients, lens) - points
        inverse, monotone = _inverse_jacobian(ideal, coefficients, lens)
        valid = monotone & (error.abs().amax(-1) < _TOLERANCE)
        if bool((valid | ~points.isfinite().all(-1)).all()):
            break
        ideal = ideal - _times(inverse, error)
    identity = torch.eye(2, dtype=points.dtype, device=points.device)
    return torch.where(valid[..., None], ideal, 0.0), torch.where(valid[..., None, None], inverse, identity), valid


def _inverse_jacobian(
    ideal: Tensor, coefficients: Tensor, lens: Lens
) -> tuple[Float[Tensor, "*batch point 2 2"], Bool[Tensor, "*batch point"]]:
    """Inverse of the Jacobian of `distort` by central differences, and where its determinant is positive."""
    step = 1e-5
    shifts = ideal.new_tensor([[step, 0.0], [-step, 0.0], [0.0, step], [0.0, -step]])
    shifted = (ideal.unsqueeze(-3) + shifts[:, None]).flatten(-3, -2)
    right, left, down, up = distort(shifted, coefficients, lens).unflatten(-2, (4, -1)).unbind(-3)
    (a, c), (b, d) = ((right - left) / (2 * step)).unbind(-1), ((down - up) / (2 * step)).unbind(-1)
    determinant = a * d - b * c
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return adjugate / determinant[..., None, None], determinant > 0


def _times(matrix: Tensor, vector: Tensor) -> Float[Tensor, "*batch point 2"]:
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def _identity(points: Tensor) -> Tensor:
    return torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape[:-2], 3, 3)


def _fisheye_parameters(coefficients: Tensor) -> Float[Tensor, "*batch 1 8"]:
    """Kornia's order: fx fy cx cy k1 k2 k3 k4, for normalised points."""
    one = torch.ones_like(coefficients[..., :2])
    return torch.cat([one, torch.zeros_like(one), coefficients[..., :4]], -1)[..., None, :]
