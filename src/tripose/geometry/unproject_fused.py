"""`volume.unproject` on the CPU in one pass: sampled and aggregated line by line, with no volume per view.

Needs the optional package numba. Source: Iskakov et al., ICCV 2019, section 3.2. The loops that cost go over channels
that lie side by side in memory, or over a line of voxels times channels, so that the compiler vectorises them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float
from llvmlite import ir
from numba.extending import intrinsic
from torch import Tensor

from tripose.compiled import compiled
from tripose.geometry.volume import NEAREST_MM, Aggregation

# In compiled code a number of Python would turn the arithmetic into float64.
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
# What a view that does not see a voxel has there, in a maximum or softmax. The first view's is the larger one, so that
# beside it a later view that does not see the voxel either weighs exp(-2e38) = 0, and not 1.
_FIRST_HIDDEN, _HIDDEN = np.float32(-1e38), np.float32(-3e38)
_SUM, _MEAN, _MAX, _SOFTMAX = range(4)
_compiled = compiled("fast", error_model="numpy", fastmath={"contract", "nsz"})


def unproject_fused(
    features: Float[Tensor, "batch view channel rows columns"],
    lines: Float[Tensor, "batch view 3 line"],
    along: Float[Tensor, "batch view 3 voxel"],
    view_valid: Bool[Tensor, "batch view"],
    confidence: Float[Tensor, "batch view channel"] | None,
    aggregation: Aggregation,
    legacy_alignment: bool,
) -> Float[Tensor, "batch channel voxel voxel voxel"]:
    """Sample and aggregate, in as many threads as torch has; not differentiable.

    Takes no more memory than the result, a copy of the features and some lines of voxels, however many the views.

    Args:
        features: float32, on the CPU, finite in valid views.
        lines: float64, homogeneous sampling positions of the starts of the lines of voxels, as `volume` makes them.
        along: float64, what to add to them along the lines.
        view_valid: views that exist.
        confidence: for ``conf`` and ``conf_norm``.
        aggregation: as in `volume.unproject`.
        legacy_alignment: views that do not see a voxel take part with the value 0.

    Returns:
        float32, in the memory format `torch.channels_last_3d`.
    """
    batch, views, channels, rows, columns = features.shape
    voxels = along.shape[-1]
    mode = {"sum": _SUM, "conf": _SUM, "conf_norm": _MEAN, "max": _MAX, "softmax": _SOFTMAX}[aggregation]
    cells = features.permute(0, 1, 3, 4, 2)
    if aggregation not in ("conf", "conf_norm"):
        confidence = features.new_zeros(batch, views, 0)
    elif confidence is None:
        raise ValueError(f"aggregation {aggregation!r} needs the views' confidences")
    else:  # sampling is linear: weighing the maps is weighing the samples
        cells = cells * confidence[:, :, None, None]
    arrays = [tensor.contiguous().numpy() for tensor in (cells.flatten(2, 3), lines, along, view_valid, confidence)]
    # In strips, so that what neighbouring lines share is still in the cache: 6 % with 4 views, 13 % with 31.
    index = np.arange(voxels * voxels).reshape(voxels, voxels)
    order = np.concatenate([index[:, j : j + 16].ravel() for j in range(0, voxels, 16)])
    # numpy asks for large pages, in which the first touch of 32 MB (32 channels of 64^3) takes 5 ms instead of 15.
    volume = np.empty((batch, voxels * voxels, voxels, channels), np.float32)
    threads = torch.get_num_threads()

    def work(thread: int) -> None:
        start, stop = (batch * voxels * voxels * n // threads for n in (thread, thread + 1))
        _unproject_range(*arrays, order, (rows, columns), mode, legacy_alignment, NEAREST_MM, start, stop, volume)

    if threads == 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
    return torch.from_numpy(volume).view(batch, voxels, voxels, voxels, channels).permute(0, 4, 1, 2, 3)


@_compiled
@no_type_check
def _unproject_range(
    cells, lines, along, view_valid, confidence, order, size, mode, legacy, nearest_mm, start, stop, volume
):
    rows, columns = size
    # Steps from cell to cell: unsigned, or every access would ask whether to count from the end.
    right, down = np.uint64(columns > 1), np.uint64(columns if rows > 1 else 0)
    voxels, channels = volume.shape[2:]
    # Where a view samples a line of voxels:
    position = np.empty((2, voxels), np.float32)
    seen = np.empty(voxels, np.bool_)
    corner = np.empty(voxels, np.int32)
    weights = np.empty((4, voxels), np.float32)
    # What it finds there, and what is kept of the views so far: sums of weights and, for a softmax, the maximum.
    values = np.empty((voxels, channels), np.float32)
    mass = np.empty((voxels, channels), np.float32)
    top = np.empty(voxels * channels, np.float32)
    first_hidden, hidden = (_ZERO, _ZERO) if mode in (_SUM, _MEAN) else (_FIRST_HIDDEN, _HIDDEN)
    for n in range(start, stop):
        sample, line = n // order.size, order[n % order.size]
        total = volume[sample, line]
        total[:] = _ZERO
        mass[:] = _ZERO
        fresh = True
        for view in range(view_valid.shape[1]):
            if view_valid[sample, view]:
                _project(lines[sample, view, :, line], along[sample, view], nearest_mm, legacy, position, seen)
                _locate(position, rows, columns, legacy, corner, weights)
                found, absent = (total, first_hidden) if fresh else (values, hidden)
                _sample(cells[sample, view], right, down, corner, weights, seen, absent, found)
                _merge(mode, fresh, values.reshape(-1), top, mass.reshape(-1), total.reshape(-1))
                if mode == _MEAN:
                    _add_seen(mass, confidence[sample, view], seen)
                fresh = False
        _finish(mode, mass.reshape(-1), total.reshape(-1))


@_compiled
@no_type_check
def _merge(mode, fresh, values, top, mass, total):
    if mode == _SOFTMAX and fresh:
        _begin(total, top, mass)
    elif mode == _SOFTMAX:
        _weigh(values, top, mass, total)
    elif mode == _MAX and not fresh:
        for c in range(total.size):
            total[c] = values[c] if values[c] > total[c] else total[c]
    elif not fresh:
        for c in range(total.size):
            total[c] += values[c]


@_compiled
@no_type_check
def _finish(mode, mass, total):
    if mode == _MAX:
        for c in range(total.size):
            total[c] = total[c] if total[c] > _FIRST_HIDDEN else _ZERO
    elif mode != _SUM:
        for c in range(total.size):
            total[c] /= mass[c] if mass[c] > _ZERO else _ONE


@_compiled
@no_type_check
def _project(start, along, nearest_mm, legacy, position, seen):
    for k in range(seen.size):
        depth = start[2] + along[2, k]
        in_front = depth > nearest_mm
        inverse = 1.0 / (depth if in_front else 1.0)
        x, y = (start[0] + along[0, k]) * inverse, (start[1] + along[1, k]) * inverse
        seen[k] = legacy | (in_front & (abs(x) <= 1.0) & (abs(y) <= 1.0))
        position[0, k] = x if in_front else 4.0
        position[1, k] = y


@_compiled
@no_type_check
def _locate(position, rows, columns, legacy, corner, weights):
    """The four cells around each position: the upper left one (never in the last row or column), and weights."""
    half_x, half_y = _HALF * np.float32(columns), _HALF * np.float32(rows)
    last_x, last_y = np.float32(columns - 1), np.float32(rows - 1)
    corner_x, corner_y = max(last_x - _ONE, _ZERO), max(last_y - _ONE, _ZERO)
    for k in range(corner.size):
        x, y = (position[0, k] + _ONE) * half_x - _HALF, (position[1, k] + _ONE) * half_y - _HALF
        from_x, from_y = _positive(x), _positive(y)
        if not legacy:
            x, y = min(from_x, last_x), min(from_y, last_y)
        left, top = np.int32(min(from_x, corner_x)), np.int32(min(from_y, corner_y))
        x, y = x - np.float32(left), y - np.float32(top)
        # A cell's weight falls to 0 at its neighbours, so outside the map all weights are 0.
        weights[0, k] = _tent(x) * _tent(y)
        weights[1, k] = _tent(_ONE - x) * _tent(y)
        weights[2, k] = _tent(x) * _tent(_ONE - y)
        weights[3, k] = _tent(_ONE - x) * _tent(_ONE - y)
        corner[k] = top * np.int32(columns) + left


@_compiled
@no_type_check
def _tent(x):
    return _positive(_ONE - abs(x))


@_compiled
@no_type_check
def _positive(x):
    return x if x > _ZERO else _ZERO  # 0 for NaN, so that nobody reads beside the map


@_compiled
@no_type_check
def _sample(cells, right, down, corner, weights, seen, absent, values):
    for k in range(values.shape[0]):
        if seen[k]:
            n = np.uint64(corner[k])
            a, b, c, d = weights[0, k], weights[1, k], weights[2, k], weights[3, k]
            for channel in range(values.shape[1]):
                values[k, channel] = (a * cells[n, channel] + b * cells[n + right, channel]) + (
                    c * cells[n + down, channel] + d * cells[n + down + right, channel]
                )
        else:
            for channel in range(values.shape[1]):
                values[k, channel] = absent


@_compiled
@no_type_check
def _add_seen(total, values, seen):
    for k in range(total.shape[0]):
        if seen[k]:
            for channel in range(total.shape[1]):
                total[k, channel] += values[channel]


@_compiled
@no_type_check
def _begin(total, top, mass):
    for c in range(total.size):
        top[c] = total[c]
        mass[c] = _ONE if top[c] > _FIRST_HIDDEN else _ZERO
        total[c] = top[c] * mass[c]


@_compiled
@no_type_check
def _weigh(values, top, mass, total):
    """One view more in a softmax over views: `mass` and `total` are sums weighted by exp(value - top)."""
    for c in range(total.size):
        value, highest = values[c], top[c]
        higher = value > highest
        less = _exp_minus(abs(value - highest))
        before = less if higher else _ONE
        now = _ONE if higher else less
        mass[c] = mass[c] * before + now
        total[c] = total[c] * before + value * now
        top[c] = value if higher else highest


_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.442695), np.float32(0.693359375), np.float32(-2.1219444e-4)
# Of exp(-x), |x| <= ln(2) / 2, with the least relative error (1.0e-7) where the first two are 1.
_C2, _C3, _C4, _C5 = (np.float32(c) for c in (0.4999923, -0.16667116, 0.04189033, -0.0083125))
_LARGEST = np.float32(87)


@_compiled
@no_type_check
def _exp_minus(x):
    """exp(-x) of x >= 0, to 2e-7 relative; 0 beyond 87. `math.exp` is a call per number, which nothing vectorises."""
    halvings = np.int32(x * _LOG2_E + _HALF)
    n = np.float32(halvings)
    rest = (x - n * _LN2_HIGH) - n * _LN2_LOW
    power = _ONE + rest * (-_ONE + rest * (_C2 + rest * (_C3 + rest * (_C4 + rest * _C5))))
    power *= _float_of_bits(np.int32((127 - halvings) << 23))
    return power if x < _LARGEST else _ZERO


@intrinsic
@no_type_check
def _float_of_bits(_context, _bits):
    def code(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.int32), code
