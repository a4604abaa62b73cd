"""Slow, readable twins of `tripose.geometry.volume`: dense coordinates, one view at a time, every view's volume kept.

Iskakov et al., ICCV 2019, section 3.2. The first half works as the published code does: pixel i is coordinate i, and
samples outside a map are 0 and take part. The second half is what models trained here get, one voxel at a time.
Everything is in the type of the arguments; lengths in mm.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F


def rotation_about(axis, theta):
    """Counter-clockwise rotation about an axis (Rodrigues), float64."""
    x, y, z = torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + math.sin(theta) * cross + (1 - math.cos(theta)) * cross @ cross


def coordinate_volume(center_mm, side_mm, voxels, axis=(0, 0, 1), theta=0.0, transfer=False):
    """World positions of all voxels, [voxel, voxel, voxel, 3].

    `transfer` stands a network of a world with y down into one with z up.
    """
    steps = torch.arange(voxels)
    index = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).to(center_mm)
    position = center_mm - side_mm / 2 + side_mm / (voxels - 1) * index
    turned = (position - center_mm).reshape(-1, 3) @ rotation_about(axis, theta).to(center_mm).T
    position = turned.view_as(position) + center_mm
    return position.permute(0, 2, 1, 3).flip(1) if transfer else position


def unproject_view(features, P, position_mm):
    """Sample one view's map [channel, rows, columns] at the projections of points [n, 3]; P in cells: [channel, n].

    The published sampling: x divided by the rows and y by the columns, and both as if a map of n cells were n - 1 wide.
    """
    rows, columns = features.shape[1:]
    # Products one after the other: in float32, this rounds as the recorded outputs of the published code do.
    x, y, z = position_mm.T[..., None]
    projected = x * P[:, 0] + y * P[:, 1] + z * P[:, 2] + P[:, 3]
    depth = projected[:, 2]
    cell = projected[:, :2] / torch.where(depth == 0, 1.0, depth)[:, None]
    grid = torch.stack([2 * (cell[:, 0] / rows - 0.5), 2 * (cell[:, 1] / columns - 0.5)], 1)
    sampled = F.grid_sample(features[None], grid[None, :, None], "bilinear", "zeros", align_corners=True)[0, :, :, 0]
    sampled[:, depth <= 0] = 0.0
    return sampled


def unproject_heatmaps(features, P, coordinates_mm, aggregation, confidence=None):
    """[batch, view, channel, rows, columns] into coordinate volumes: [batch, channel, voxel, voxel, voxel].

    `confidence` [batch, view, channel] is used as it is; the published model divides it by its sum for ``conf_norm``.
    """
    result = []
    for sample in range(len(features)):
        shape = coordinates_mm[sample].shape[:-1]
        points = coordinates_mm[sample].reshape(-1, 3)
        # As published: a volume per view in a buffer of zeros, and another copy of them all for the softmax.
        volumes = features.new_zeros(*features.shape[1:3], len(points))
        for view in range(len(volumes)):
            volumes[view] = unproject_view(features[sample, view], P[sample, view], points)
        if aggregation == "sum":
            aggregated = volumes.sum(0)
        elif aggregation == "max":
            aggregated = volumes.max(0).values
        elif aggregation == "softmax":
            aggregated = (volumes * volumes.clone().softmax(0)).sum(0)
        else:
            aggregated = (volumes * confidence[sample][..., None]).sum(0)
        result.append(aggregated.unflatten(-1, shape))
    return torch.stack(result)


def integrate_volumes(logits, coordinates_mm, relu=False):
    """Expected positions [batch, joint, 3], and the volumes of weights they come from."""
    weights = logits.relu() if relu else logits.flatten(2).softmax(2).view_as(logits)
    return torch.einsum("bjxyz,bxyzc->bjc", weights, coordinates_mm), weights


def cross_entropy_published(logits, coordinates_mm, truth_mm, valid):
    """``-log(p + 1e-6)`` of the voxel nearest to the truth; invalid joints count in the mean."""
    p = logits.flatten(2).softmax(2)
    total = 0.0
    for sample, joint in itertools.product(*map(range, valid.shape)):
        if valid[sample, joint]:
            squared = (coordinates_mm[sample].reshape(-1, 3) - truth_mm[sample, joint]).square().sum(-1)
            total = total - (p[sample, joint, squared.argmin()] + 1e-6).log()
    return total / valid.numel()


# --- What models trained here get ------------------------------------------------------------------------------------


def bilinear(features, column, row):
    """The value [channel] of a map at a fractional cell within it."""
    rows, columns = features.shape[1:]
    x, y = min(int(column.detach()), columns - 2), min(int(row.detach()), rows - 2)
    right, down = column - x, row - y
    top = (1 - right) * features[:, y, x] + right * features[:, y, x + 1]
    bottom = (1 - right) * features[:, y + 1, x] + right * features[:, y + 1, x + 1]
    return (1 - down) * top + down * bottom


def samples_of_voxel(features, P, image_size_px, position_mm):
    """What the views that see a point have there: {view: [channel]}. P in pixels of the images."""
    seen = {}
    rows, columns = features.shape[2:]
    for view, p in enumerate(P):
        x, y, depth = p[:, :3] @ position_mm + p[:, 3]
        if depth <= 1.0:
            continue
        # A map's cell covers several pixels; its centre lies between them.
        column = (x / depth + 0.5) * columns / image_size_px[0] - 0.5
        row = (y / depth + 0.5) * rows / image_size_px[1] - 0.5
        if -0.5 <= column <= columns - 0.5 and -0.5 <= row <= rows - 0.5:
            seen[view] = bilinear(features[view], column.clamp(0, columns - 1), row.clamp(0, rows - 1))
    return seen


def aggregate_voxel(seen, aggregation, confidence=None):
    """The views that see a voxel, and only they, make its value [channel]; `confidence` is [view, channel]."""
    values = torch.stack(list(seen.values()))
    if aggregation == "sum":
        return values.sum(0)
    if aggregation == "max":
        return values.max(0).values
    if aggregation == "softmax":
        return (values * values.softmax(0)).sum(0)
    weights = torch.stack([confidence[view] for view in seen])
    total = (values * weights).sum(0)
    return total if aggregation == "conf" else total / weights.sum(0)


def unproject_sample(features, P, image_size_px, coordinates_mm, aggregation, confidence=None):
    """One sample [view, channel, rows, columns] into a coordinate volume: [channel, voxel, voxel, voxel]."""
    result = features.new_zeros(features.shape[1], *coordinates_mm.shape[:-1])
    for voxel in itertools.product(*map(range, coordinates_mm.shape[:-1])):
        seen = samples_of_voxel(features, P, image_size_px, coordinates_mm[voxel])
        if seen:
            result[:, *voxel] = aggregate_voxel(seen, aggregation, confidence)
    return result


def cross_entropy_trilinear(logits, corner_mm, spacing_mm, truth_mm, valid):
    """``-sum w log p`` over the eight voxels around the truth of joints inside an upright cuboid; mean over those."""
    log_p = logits.flatten(2).log_softmax(2).view_as(logits)
    last = logits.shape[-1] - 1
    losses = []
    for sample, joint in itertools.product(*map(range, valid.shape)):
        index = [float(x) for x in (truth_mm[sample, joint] - corner_mm[sample]) / spacing_mm]
        if not valid[sample, joint] or not all(0 <= i <= last for i in index):
            continue
        loss = 0.0
        for voxel in itertools.product(range(last + 1), repeat=3):
            share = math.prod(max(0.0, 1 - abs(i - v)) for i, v in zip(index, voxel, strict=True))
            loss = loss - share * log_p[sample, joint][voxel]
        losses.append(loss)
    return sum(losses) / len(losses) if losses else logits.sum() * 0.0
