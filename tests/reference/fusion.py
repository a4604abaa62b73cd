"""Slow twins of `tripose.geometry.ray_fusion`: one person, one joint, one ray at a time."""

from __future__ import annotations

import numpy as np


def solve(origin, direction, weight, prior, precision):
    """[view 3], [view joint 3], [view joint], [joint 3], [joint 3 3] -> positions and inverses."""
    positions, inverses = [], []
    for joint in range(direction.shape[1]):
        normal, moment = precision[joint].copy(), precision[joint] @ prior[joint]
        for view in range(len(origin)):
            d = direction[view, joint]
            across = np.eye(3) - np.outer(d, d)
            normal = normal + weight[view, joint] * across
            moment = moment + weight[view, joint] * across @ origin[view]
        positions.append(np.linalg.solve(normal, moment))
        inverses.append(np.linalg.inv(normal))
    return np.array(positions), np.array(inverses)


def offset(origin, direction, position):
    """From positions to the nearest point of each ray."""
    result = np.zeros_like(direction)
    for view, joint in np.ndindex(direction.shape[:2]):
        d = direction[view, joint]
        along = d @ (position[joint] - origin[view])
        result[view, joint] = origin[view] + along * d - position[joint]
    return result


def body_frame(position, template, weight):
    """Axes (rows x, y, z) and middle, by least squares of an affine map, slightly damped."""
    share = weight / weight.sum()
    middle, template_middle = share @ position, share @ template
    x, y = template - template_middle, position - middle
    spread = sum(w * np.outer(a, a) for w, a in zip(share, x, strict=True)) + 1e-3 * np.eye(3)
    cross = sum(w * np.outer(b, a) for w, a, b in zip(share, x, y, strict=True))
    affine = cross @ np.linalg.inv(spread)
    up = affine[:, 2] / np.linalg.norm(affine[:, 2])
    left = affine[:, 0] - (affine[:, 0] @ up) * up
    left /= np.linalg.norm(left)
    return np.stack([left, np.cross(up, left), up]), middle
