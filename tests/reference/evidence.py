"""Slow, readable twins of `tripose.models` for heatmaps that are probabilities: one keypoint or view at a time."""

from __future__ import annotations

import math

import numpy as np
import torch

from reference.triangulate import best_pair, dlt_point, gauss_newton_point, reproject


def window_mean(weights, middle, sigma):
    """Mean cell (x, y) of a map [rows, columns] in a Gaussian window, and how much the window holds."""
    mass, moment = 0.0, torch.zeros(2, dtype=torch.float64)
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            cell = torch.tensor([column, row], dtype=torch.float64)
            weight = weights[row, column].double() * torch.exp(-0.5 * ((cell - middle) / sigma).square().sum())
            mass, moment = mass + weight, moment + weight * cell
    return moment / mass, mass


def heatmap_cross_entropy(logits, truth_px, valid, image_size_px, sigma_px):
    """Of maps [batch, view, joint, rows, columns] with Gaussians that sum to one; mean over keypoints in the image."""
    losses = []
    rows, columns = logits.shape[-2:]
    for index in np.ndindex(*valid.shape):
        x, y = truth_px[index].tolist()
        inside = -0.5 < x < image_size_px[0] - 0.5 and -0.5 < y < image_size_px[1] - 0.5
        if not (valid[index] and inside):
            continue
        target = torch.zeros(rows, columns, dtype=torch.float64)
        for row in range(rows):
            for column in range(columns):
                dx = (column + 0.5) * image_size_px[0] / columns - 0.5 - x
                dy = (row + 0.5) * image_size_px[1] / rows - 0.5 - y
                target[row, column] = math.exp(-(dx**2 + dy**2) / (2 * sigma_px**2))
        log_p = logits[index].flatten().log_softmax(0)
        losses.append(-(target.flatten() / target.sum() * log_p).sum())
    return sum(losses) / len(losses) if losses else logits.sum() * 0.0


def agreement_point(P, points, weights, gate):
    """The five features of every view of one point, [view, 5]; image points and P in fractions of the image's side."""
    seen = [v for v, w in enumerate(weights) if w > 0]
    inliers = [1.0 if w > 0 else 0.0 for w in weights]
    X = best_pair(P, points, inliers, lambda error: min(error, gate**2))
    if X is not None:
        for _ in range(2):
            good = [w * (_error(p, point, X) < gate) for p, point, w in zip(P, points, inliers, strict=True)]
            if sum(good) >= 2:
                X = gauss_newton_point(P, points, good, X)
    solutions = [X, dlt_point(P, points, weights, homogeneous=0)]
    result = np.zeros((len(P), 5))
    for view in range(len(P)):
        told = []
        for X in solutions:
            told += _told(P[view], points[view], X, gate)
        others = [w if v != view else 0.0 for v, w in enumerate(weights)]
        X = dlt_point(P, points, others, homogeneous=0) if sum(w > 0 for w in others) >= 2 else None
        told.append(_told(P[view], points[view], X, gate)[0])
        result[view] = told
    return result, seen


def _error(p, point, X):
    projected, depth = reproject(p, X)
    return float(np.linalg.norm(projected - point)) if depth > 0 else math.inf


def _told(p, point, X, gate):
    if X is None:
        return [-1.0, 0.0]
    error = _error(p, point, X)
    return [0.5 * math.log1p(min(100.0, 256 * error)), float(error < gate)]


def pulled_point(P, points, weights, start, pull):
    """Least squares of weighted DLT rows, each divided by its camera's focal length, and of the pull; metres."""
    rows, values = [], []
    for p, (u, v), w in zip(P, points, weights, strict=True):
        if w > 0:
            sideways = p[0, :3] - (p[0, :3] @ p[2, :3]) * p[2, :3]
            for row in (u * p[2] - p[0], v * p[2] - p[1]):
                rows.append(w / np.linalg.norm(sideways) * row[:3])
                values.append(-w / np.linalg.norm(sideways) * row[3])
    rows += list(math.sqrt(pull) * np.eye(3))
    values += list(math.sqrt(pull) * start)
    return np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
