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

# Steps of the fixed-point iteration: few are enough in most images, and only where they are not, many are made. At the
# corners of a GoPro-like lens (k1 = -0.33) a digit takes 2-3 steps. (Newton's method is quicker there, but jumps to
# other branches of the polynomial.)
_ITERATIONS = (8, 40)
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
    missing = ~points.isfinite().all(-1)
    for iterations in _ITERATIONS:
        ideal = _iterate(points, coefficients, lens, iterations)
        back = distort(ideal, coefficients, lens)
        close = (back - points).abs().amax(-1) < _TOLERANCE
        if bool((close | missing).all()):
            break
    inverse, monotone = _inverse_jacobian(ideal, back, coefficients, lens)
    valid = close & monotone
    identity = torch.eye(2, dtype=points.dtype, device=points.device)
    return torch.where(valid[..., None], ideal, 0.0), torch.where(valid[..., None, None], inverse, identity), valid


def _iterate(points: Tensor, coefficients: Tensor, lens: Lens, iterations: int) -> Float[Tensor, "*batch point 2"]:
    if lens == "fisheye":  # kornia's Newton steps on the angle, always ten
        from kornia.geometry.camera.distortion_kannala_brandt import undistort_points_kannala_brandt

        ideal: Tensor = undistort_points_kannala_brandt(points, _fisheye_parameters(coefficients))
        return ideal
    from kornia.geometry.calibration import undistort_points

    fixed: Tensor = undistort_points(points, _identity(points), coefficients, num_iters=iterations)
    return fixed


def _inverse_jacobian(
    ideal: Tensor, bent: Tensor, coefficients: Tensor, lens: Lens
) -> tuple[Float[Tensor, "*batch point 2 2"], Bool[Tensor, "*batch point"]]:
    """Inverse of the Jacobian of `distort` from `ideal` to `bent`, and where its determinant is positive."""
    step = 1e-6
    a, c = ((distort(ideal + ideal.new_tensor([step, 0.0]), coefficients, lens) - bent) / step).unbind(-1)
    b, d = ((distort(ideal + ideal.new_tensor([0.0, step]), coefficients, lens) - bent) / step).unbind(-1)
    determinant = a * d - b * c
    adjugate = torch.stack([d, -b, -c, a], -1) / determinant[..., None]
    return adjugate.unflatten(-1, (2, 2)), determinant > 0


def _times(matrix: Tensor, vector: Tensor) -> Float[Tensor, "*batch point 2"]:
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def _identity(points: Tensor) -> Tensor:
    return torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape[:-2], 3, 3)


def _fisheye_parameters(coefficients: Tensor) -> Float[Tensor, "*batch 1 8"]:
    """Kornia's order: fx fy cx cy k1 k2 k3 k4, for normalised points."""
    one = torch.ones_like(coefficients[..., :2])
    return torch.cat([one, torch.zeros_like(one), coefficients[..., :4]], -1)[..., None, :]
