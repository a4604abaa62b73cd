"""Linear triangulation in closed form: the homogeneous direct linear transform (DLT) without a decomposition.

Everything here works on `Rays`, a normalised triangulation problem with the points on the last axis. Sources: Hartley
and Zisserman, Multiple View Geometry, 2nd edition, sections 4.1 and 12.2; Iskakov et al., ICCV 2019, equation 4
(confidence-weighted rows).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.cameras import Cameras

_MM_PER_M = 1000.0
# Smallest determinant of the normal matrix, relative to its mean eigenvalue cubed, that counts as three-dimensional
# information. Two rays that enclose 0.1 degrees are at 3e-6; identical cameras at 1e-17 (float64 rounding).
_DEGENERATE = 1e-11
# Steps to the smallest eigenvalue, and from there to the homogeneous solution, for which gradients are kept. At 40 px
# noise they leave 1e-9 mm; where views contradict each other by 500 px, 3e-5 of the position.
_LAGUERRE_STEPS, _QUOTIENT_STEPS = 4, 2
# Upper triangle of a symmetric 4x4 matrix, row by row.
_UPPER = ((0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3))


@dataclass(frozen=True)
class Rays:
    """A triangulation problem in float64, scaled so that all numbers are near one.

    Attributes:
        uv: ideal (undistorted) image points relative to the principal point, in units of `focal_px`.
        P: projection matrices in the same image unit; world unit metres.
        weight: 0 for a missing observation; finite and not negative.
        focal_px: the one focal length that scales every view, so that errors compare as pixels.
    """

    uv: Float[Tensor, "*batch view 2 point"]
    P: Float[Tensor, "*batch view 3 4"]
    weight: Float[Tensor, "*batch view point"]
    focal_px: Float[Tensor, ""]


def make_rays(
    cameras: Cameras,
    points_px: Float[Tensor, "*batch view point 2"],
    weight: Float[Tensor, "*batch view point"],
) -> Rays:
    """Undistort and normalise.

    Args:
        cameras: the rig; its batch axes, if any, are those of the points.
        points_px: raw image positions; NaN = missing.
        weight: observation weights; anything not finite or not positive counts as missing.
    """
    cameras, points_px, weight = cameras.to(torch.float64), points_px.double(), weight.double()
    seen = _seen(points_px, weight)
    centre = cameras.K[..., :2, 2].unsqueeze(-2)
    # A harmless point before any arithmetic: a NaN times a zero weight would poison values and gradients of every view.
    ideal = cameras.undistort(torch.where(seen.unsqueeze(-1), points_px, centre))
    seen = seen & torch.isfinite(ideal[..., 0] + ideal[..., 1])
    focal = cameras.K[..., (0, 1), (0, 1)].mean()
    uv = torch.where(seen.unsqueeze(-2), ideal.mT.contiguous() - centre.mT, 0.0) / focal
    intrinsics = torch.cat([cameras.K[..., :2, :2] / focal, torch.zeros_like(centre.mT)], -1)
    K = torch.cat([intrinsics, cameras.K[..., 2:, :]], -2)
    P = K @ torch.cat([cameras.R, cameras.t.unsqueeze(-1) / _MM_PER_M], -1)
    return Rays(uv, P, torch.where(seen, weight, 0.0), focal)


def _seen(
    points_px: Float[Tensor, "*batch view point 2"], weight: Float[Tensor, "*batch view point"]
) -> Bool[Tensor, "*batch view point"]:
    return torch.isfinite(points_px[..., 0] + points_px[..., 1]) & (weight > 0) & (weight < torch.inf)


def projection_rays(
    P: Float[Tensor, "*batch view 3 4"],
    points_px: Float[Tensor, "*batch view point 2"],
    weight: Float[Tensor, "*batch view point"],
    image_size_px: tuple[int, int],
) -> Rays:
    """The same for views of one size that are known by their projection matrices (pinhole crops).

    Args:
        P: mm to px.
        points_px: image positions; NaN = missing.
        weight: observation weights; anything not finite or not positive counts as missing.
        image_size_px: width, height.
    """
    P, points_px, weight = P.double(), points_px.double(), weight.double()
    seen = _seen(points_px, weight)
    focal = P.new_tensor(float(max(image_size_px)))
    centre = P.new_tensor(image_size_px) / 2
    uv = (torch.where(seen[..., None], points_px, centre) - centre) / focal
    rows = torch.cat([(P[..., :2, :] - centre[:, None] * P[..., 2:, :]) / focal, P[..., 2:, :]], -2)
    rows = torch.cat([rows[..., :3], rows[..., 3:] / _MM_PER_M], -1)
    return Rays(uv.mT, rows, torch.where(seen, weight, 0.0), focal)


def dlt(rays: Rays, homogeneous: float = 1.0) -> tuple[Float[Tensor, "*batch 3 point"], Bool[Tensor, "*batch point"]]:
    """Solve the weighted DLT of every point.

    The textbook answer is the right singular vector of the stacked rows ``w (u P2 - P0)``, ``w (v P2 - P1)``. It
    depends on the unit of length, because the norm of ``[X, 1]`` mixes metres and ones; the field uses metres or mm.
    Here the eigenvector of the 4x4 normal matrix is found from its 3x3 block: ``(H - m s^2 I) X = -g`` with ``m`` the
    smallest eigenvalue, polished as the Rayleigh quotient; pure arithmetic, so it exports and differentiates.

    Args:
        rays: the problem.
        homogeneous: ``s``, length units per metre in the norm: 1 for metres, 1000 for mm, 0 for the solution that
            fixes the last coordinate to one (independent of unit and origin).

    Returns:
        Positions in metres, and whether they are determined; undetermined ones are finite but meaningless.
    """
    gram = gram_matrix(rays.P, rays.uv, rays.weight * rays.weight)
    position, determined = solve_normal(gram)
    if homogeneous:
        stretch = homogeneous**2
        g, c = gram[..., (3, 6, 8), :], gram[..., 9, :]
        quotient = _smallest_eigenvalue(gram.detach(), stretch)
        position, _ = solve_normal(gram, shift=quotient * stretch)
        for _ in range(_QUOTIENT_STEPS):
            # [X, 1]^T M [X, 1] / (1 + s^2 |X|^2), with H X = quotient s^2 X - g from the step before.
            x, y, z = position.unbind(-2)
            norm = stretch * (x * x + y * y + z * z)
            linear = g[..., 0, :] * x + g[..., 1, :] * y + g[..., 2, :] * z + c
            quotient = (quotient * norm + linear) / (1.0 + norm)
            position, _ = solve_normal(gram, shift=quotient * stretch)
    return position, determined


def _smallest_eigenvalue(gram: Float[Tensor, "*batch 10 point"], stretch: float) -> Float[Tensor, "*batch point"]:
    """Smallest root of the quartic ``det(M - m diag(s^2, s^2, s^2, 1))``, from below, to some digits.

    All roots are real, so Laguerre's method, started at 0, never passes the smallest one, however far the views are
    from agreeing: Newton's does, and then ends at another root.
    """
    a, b, c, d, e, f, h, i, j, k = gram.unbind(-2)
    A00, A01, A02 = e * i - f * f, c * f - b * i, b * f - c * e
    A11, A12, A22 = a * i - c * c, b * c - a * f, a * e - b * b
    determinant, trace = a * A00 + b * A01 + c * A02, a + e + i
    gg = d * d + h * h + j * j
    gHg = a * d * d + e * h * h + i * j * j + 2 * (b * d * h + c * d * j + f * h * j)
    gAg = A00 * d * d + A11 * h * h + A22 * j * j + 2 * (A01 * d * h + A02 * d * j + A12 * h * j)
    # (c - m) det(H - x I) - g^T adj(H - x I) g with x = m s^2, sorted by powers of m.
    p0 = k * determinant - gAg
    p1 = stretch * (trace * gg - gHg - k * (A00 + A11 + A22)) - determinant
    p2 = stretch * (A00 + A11 + A22 + stretch * (k * trace - gg))
    p3 = -(stretch**2) * (trace + stretch * k)
    p4 = stretch**3
    m = torch.zeros_like(k)
    for _ in range(_LAGUERRE_STEPS):
        value = (((p4 * m + p3) * m + p2) * m + p1) * m + p0
        slope = ((4 * p4 * m + 3 * p3) * m + 2 * p2) * m + p1
        bend = (12 * p4 * m + 6 * p3) * m + 2 * p2
        divisor = slope - (9 * slope * slope - 12 * value * bend).clamp(min=0.0).sqrt()
        below = (value > 0) & (divisor < 0)
        m = torch.where(below, m - 4 * value / torch.where(below, divisor, -1.0), m)
    return m


def gram_basis(P: Float[Tensor, "*batch view 3 4"]) -> Float[Tensor, "*batch view 4 10"]:
    """Coefficients that make each view's normal matrix linear in ``(u^2 + v^2, u, v, 1)``."""
    a, b, c = P.unbind(-2)
    half = torch.stack([_outer(c, c) / 2, -_outer(c, a), -_outer(c, b), (_outer(a, a) + _outer(b, b)) / 2], -3)
    symmetric = half + half.mT
    return torch.stack([symmetric[..., i, j] for i, j in _UPPER], -1)


def gram_features(
    uv: Float[Tensor, "*batch view 2 point"], squared_weight: Float[Tensor, "*batch view point"]
) -> Float[Tensor, "*batch view 4 point"]:
    """The weighted monomials ``w^2 (u^2 + v^2, u, v, 1)`` that `gram_basis` multiplies."""
    u, v = uv.unbind(-2)
    wu, wv = squared_weight * u, squared_weight * v
    return torch.stack([wu * u + wv * v, wu, wv, squared_weight], -2)


def gram_matrix(
    P: Float[Tensor, "*batch view 3 4"],
    uv: Float[Tensor, "*batch view 2 point"],
    squared_weight: Float[Tensor, "*batch view point"],
) -> Float[Tensor, "*batch 10 point"]:
    """Upper triangles of the 4x4 normal matrices ``[[H, g], [g^T, c]]`` of all points, by one matrix product."""
    return gram_basis(P).flatten(-3, -2).mT @ gram_features(uv, squared_weight).flatten(-3, -2)


def solve_normal(
    gram: Float[Tensor, "*batch 10 point"], shift: Float[Tensor, "*batch point"] | float = 0.0
) -> tuple[Float[Tensor, "*batch 3 point"], Bool[Tensor, "*batch point"]]:
    """Solve ``(H - shift I) X = -g`` by the adjugate, where ``gram`` holds ``[[H, g], [g^T, c]]``.

    Returns:
        The solution, and whether ``H`` has three dimensions of information; where it has not, the solution is finite
        with finite gradients, but meaningless.
    """
    (A00, A01, A02, A11, A12, A22), scale, determined = _adjugate(gram, shift)
    d, h, j = gram[..., 3, :], gram[..., 6, :], gram[..., 8, :]
    rows = [A00 * d + A01 * h + A02 * j, A01 * d + A11 * h + A12 * j, A02 * d + A12 * h + A22 * j]
    return torch.stack(rows, -2) * -scale.unsqueeze(-2), determined


def inverse_normal(gram: Float[Tensor, "*batch 10 point"]) -> Float[Tensor, "*batch 6 point"]:
    """Upper triangle of ``H^-1``; finite but meaningless where ``H`` is singular."""
    adjugate, scale, _ = _adjugate(gram, 0.0)
    return torch.stack(adjugate, -2) * scale.unsqueeze(-2)


def _adjugate(
    gram: Float[Tensor, "*batch 10 point"], shift: Float[Tensor, "*batch point"] | float
) -> tuple[tuple[Tensor, ...], Float[Tensor, "*batch point"], Bool[Tensor, "*batch point"]]:
    """Upper triangle of the adjugate of ``H - shift I``, one over its determinant (1 if singular), and if regular."""
    a, b, c, _, e, f, _, i, _, _ = gram.unbind(-2)
    a, e, i = a - shift, e - shift, i - shift
    A00, A01, A02 = e * i - f * f, c * f - b * i, b * f - c * e
    A11, A12, A22 = a * i - c * c, b * c - a * f, a * e - b * b
    determinant = a * A00 + b * A01 + c * A02
    mean = (a + e + i) / 3
    determined = determinant > _DEGENERATE * mean * mean * mean
    return (A00, A01, A02, A11, A12, A22), 1.0 / torch.where(determined, determinant, 1.0), determined


def _outer(x: Tensor, y: Tensor) -> Float[Tensor, "*batch 4 4"]:
    return x[..., :, None] * y[..., None, :]
