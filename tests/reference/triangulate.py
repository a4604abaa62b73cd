"""Slow, readable twins of `tripose.geometry`: one point at a time, as in the textbook.

Hartley and Zisserman, Multiple View Geometry, 2nd edition: 12.2 (linear triangulation), 12.3 (geometric error); the
confidence-weighted rows are equation 4 of Iskakov et al., ICCV 2019. Lengths in metres, image points in pixels of
ideal cameras.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch


def projection_matrices(K, R, t_mm):
    """``K [R | t]`` of each view with the world in metres."""
    return [k @ np.column_stack([r, t / 1000]) for k, r, t in zip(K, R, t_mm, strict=True)]


def reproject(P, X):
    """Pixel position of a world point, and its depth."""
    x, y, z = P @ np.append(X, 1.0)
    return np.array([x / z, y / z]), z


def dlt_point(P, points, weights, homogeneous=1.0):
    """Linear triangulation of one point from the views with a positive weight; None with fewer than two of them.

    `homogeneous` is the number of length units to a metre: the norm of ``[X, 1]`` depends on it. 0 fixes the 1.
    """
    rows = []
    for p, (u, v), w in zip(P, points, weights, strict=True):
        if w > 0:
            rows.append(w * (u * p[2] - p[0]))
            rows.append(w * (v * p[2] - p[1]))
    if len(rows) < 4:
        return None
    A = np.array(rows)
    if homogeneous == 0:
        return np.linalg.lstsq(A[:, :3], -A[:, 3], rcond=None)[0]
    A = A @ np.diag([1 / homogeneous, 1 / homogeneous, 1 / homogeneous, 1.0])
    X = np.linalg.svd(A)[2][-1]
    return X[:3] / X[3] / homogeneous


def dlt_point_torch(P, points, weights):
    """The same with gradients: ``torch.linalg.svd`` of the weighted rows, metres."""
    rows = []
    for p, uv, w in zip(P, points, weights, strict=True):
        rows.append(w * (uv[0] * p[2] - p[0]))
        rows.append(w * (uv[1] * p[2] - p[1]))
    X = torch.linalg.svd(torch.stack(rows), full_matrices=False)[2][-1]
    return X[:3] / X[3]


def gauss_newton_point(P, points, weights, X):
    """One step on ``sum w |reprojection - point|^2`` by the normal equations."""
    H, g = np.zeros((3, 3)), np.zeros(3)
    for p, point, w in zip(P, points, weights, strict=True):
        if w > 0:
            (u, v), depth = reproject(p, X)
            for value, row, seen in ((u, p[0], point[0]), (v, p[1], point[1])):
                J = (row[:3] - value * p[2, :3]) / depth
                H += w * np.outer(J, J)
                g += w * J * (value - seen)
    return X - np.linalg.solve(H, g)


def best_pair(P, points, weights, cost):
    """The position, among those of all pairs of views, with the smallest weighted cost over all views."""
    best, best_cost = None, math.inf
    seen = [i for i, w in enumerate(weights) if w > 0]
    for i, j in itertools.combinations(seen, 2):
        X = dlt_point([P[i], P[j]], [points[i], points[j]], [1.0, 1.0], homogeneous=0)
        total = 0.0
        for k in seen:
            projected, depth = reproject(P[k], X)
            error = np.sum((projected - points[k]) ** 2) if depth > 0 else math.inf
            total += weights[k] * cost(error)
        if total < best_cost:
            best, best_cost = X, total
    return best


def ransac_point(P, points, weights, scale_px):
    """All pairs propose; a truncated squared cost decides; three Gauss-Newton steps on the inliers of the moment
    finish."""
    gate = (3 * scale_px) ** 2
    X = best_pair(P, points, weights, lambda error: min(error / gate, 1.0))
    if X is None:
        return None
    for _ in range(3):
        inlier = [
            w if w > 0 and reproject(p, X)[1] > 0 and np.sum((reproject(p, X)[0] - point) ** 2) < gate else 0.0
            for p, point, w in zip(P, points, weights, strict=True)
        ]
        if sum(w > 0 for w in inlier) < 2:
            return None
        X = gauss_newton_point(P, points, inlier, X)
    return X


def irls_point(P, points, weights, scale_px, iterations=8):
    """All pairs propose; the Cauchy cost decides; reweighted Gauss-Newton finishes."""
    X = best_pair(P, points, weights, lambda error: math.log1p(min(error / scale_px**2, 1e8)))
    if X is None:
        return None
    for _ in range(iterations):
        reweighted = [
            w / (1 + np.sum((reproject(p, X)[0] - point) ** 2) / scale_px**2) if w > 0 else 0.0
            for p, point, w in zip(P, points, weights, strict=True)
        ]
        X = gauss_newton_point(P, points, reweighted, X)
    return X


def triangulate_point(method, P, points, weights, scale_px, homogeneous=1.0):
    """All that `tripose.triangulate` says of one point: position (m), covariance (m^2), inliers, errors (px).

    None where fewer than two views agree.
    """
    roots = [math.sqrt(w) if method != "dlt" else w for w in weights]
    if method == "dlt":
        X = dlt_point(P, points, weights, homogeneous)
    else:
        X = {"ransac": ransac_point, "irls": irls_point}[method](P, points, weights, scale_px)
    if X is None:
        return None
    errors, inlier = [], []
    for p, point, w in zip(P, points, weights, strict=True):
        projected, depth = reproject(p, X)
        errors.append(float(np.linalg.norm(projected - point)) if depth > 0 else math.inf)
        inlier.append(w > 0 and errors[-1] < (math.inf if method == "dlt" else 3 * scale_px))
    if sum(inlier) < 2:
        return None
    squared = np.array([r * r if good else 0.0 for r, good in zip(roots, inlier, strict=True)])
    relative = squared / squared[squared > 0].mean()
    H, cost = np.zeros((3, 3)), 0.0
    for p, w, error in zip(P, relative, errors, strict=True):
        if w > 0:
            step = 1e-6
            J = np.stack([(reproject(p, X + d)[0] - reproject(p, X - d)[0]) / (2 * step) for d in step * np.eye(3)], 1)
            H += w * J.T @ J
            cost += w * error**2
    freedom = max(0, 2 * sum(inlier) - 3)
    variance = (cost + 4 * (scale_px / 3) ** 2) / (freedom + 4)
    return X, variance * np.linalg.inv(H), inlier, errors


def distort_point(x, y, d):
    """OpenCV's lens without tilt, typed out: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (list(d) + [0.0] * 12)[:12]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2**2,
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2,
    )


def distort_point_human36m(x, y, d):
    """Human3.6M's lens, typed out: k1 k2 p1 p2 k3, without the factor 2 of OpenCV's tangential terms."""
    k1, k2, p1, p2, k3 = d
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return (
        x * radial + p1 * x * y + p2 * (r2 + x * x),
        y * radial + p1 * (r2 + y * y) + p2 * x * y,
    )
