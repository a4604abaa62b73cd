"""The nearest triangle of a pixel, by casting its ray at every triangle."""

from __future__ import annotations

import numpy as np


def cast_ray(triangles: np.ndarray, direction: np.ndarray) -> tuple[int, float]:
    """The first triangle [face, 3, 3] that a ray from the origin meets, and the z of the meeting; -1 for none.

    Source: Moeller and Trumbore, 1997.
    """
    nearest, depth = -1, np.inf
    for i, (a, b, c) in enumerate(triangles):
        across = np.cross(direction, c - a)
        determinant = (b - a) @ across
        if determinant == 0:
            continue
        u = -a @ across / determinant
        again = np.cross(-a, b - a)
        v = direction @ again / determinant
        t = (c - a) @ again / determinant
        if u >= 0 and v >= 0 and u + v <= 1 and t > 0 and t * direction[2] < depth:
            nearest, depth = i, t * direction[2]
    return nearest, depth
