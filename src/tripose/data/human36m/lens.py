"""Human3.6M's lens in OpenCV's terms."""

from __future__ import annotations

from collections.abc import Sequence


def opencv_coefficients(radial: Sequence[float], tangential: Sequence[float]) -> list[float]:
    """The 12 coefficients ``k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4`` of the same lens.

    Human3.6M bends ``x`` to ``x g + p2 r^2`` and ``y`` to ``y g + p1 r^2`` with ``g = 1 + k1 r^2 + k2 r^4 + k3 r^6 +
    p1 y + p2 x``: OpenCV's tangential terms without their factor 2, but for the one in ``r^2``, which its thin prism
    makes up for. Read as OpenCV's own coefficients, the labels are 0.02 to 0.1 px off.

    Args:
        radial: ``k1 k2 k3``.
        tangential: ``p1 p2``.
    """
    k1, k2, k3 = map(float, radial)
    p1, p2 = map(float, tangential)
    return [k1, k2, p1 / 2, p2 / 2, k3, 0.0, 0.0, 0.0, p2 / 2, 0.0, p1 / 2, 0.0]
