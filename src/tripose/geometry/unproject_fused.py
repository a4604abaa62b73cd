"""Unprojection and aggregation in one pass on the CPU: what `volume.unproject` computes, without a volume per view.

Needs the optional package numba. Source: Iskakov et al., ICCV 2019, section 3.2.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float
from llvmlite import ir
from numba.extending import intrinsic
from torch import Tensor

from tripose.geometry.volume import _NEAREST_MM, Aggregation

_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})


@intrinsic
def _float_of_bits(_context, bits):
    def code(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.int32), code


LOG2E = np.float32(1.4426950408889634)
LN2H = np.float32(0.693359375)
LN2L = np.float32(-2.12194440e-4)
C2 = np.float32(0.5)
C3 = np.float32(1.6666665459e-1)
C4 = np.float32(4.1665795894e-2)
C5 = np.float32(8.3334519073e-3)
C6 = np.float32(1.3981999507e-3)
LOW = np.float32(-87.0)
ZERO = np.float32(0)


@_jit
def _exp(x):
    x = max(x, LOW)
    n = np.int32(x * LOG2E - _HALF)
    f = np.float32(n)
    r = x - f * LN2H
    r = r - f * LN2L
    p = C5 + r * C6
    p = C4 + r * p
    p = C3 + r * p
    p = C2 + r * p
    p = _ONE + r * p
    p = _ONE + r * p
    return p * _float_of_bits(np.int32((n + np.int32(127)) << np.int32(23)))


@_jit
def _tent(x):
    return max(ZERO, _ONE - abs(x))


@_jit
def _locate(first, second, third, columns, rows, nearest_mm, legacy, corner, w00, w01, w10, w11, seen):
    half_c, half_r = np.float32(columns) * _HALF, np.float32(rows) * _HALF
    last_x, last_y = np.float32(columns - 1), np.float32(rows - 1)
    corner_x, corner_y = np.float32(max(columns - 2, 0)), np.float32(max(rows - 2, 0))
    right = _ONE if columns > 1 else ZERO
    down = _ONE if rows > 1 else ZERO
    for k in range(third.shape[1]):
        depth = first[2] + (second[2] + third[2, k])
        in_front = depth > nearest_mm
        inverse = 1.0 / (depth if in_front else 1.0)
        x = (first[0] + (second[0] + third[0, k])) * inverse
        y = (first[1] + (second[1] + third[1, k])) * inverse
        inside = in_front & (abs(x) <= 1.0) & (abs(y) <= 1.0)
        x = min(max(x, -4.0), 4.0) if in_front else 4.0
        y = min(max(y, -4.0), 4.0) if in_front else 4.0
        cx = (np.float32(x) + _ONE) * half_c - _HALF
        cy = (np.float32(y) + _ONE) * half_r - _HALF
        if not legacy:
            cx = min(max(cx, ZERO), last_x)
            cy = min(max(cy, ZERO), last_y)
        qx = np.int32(min(max(cx, ZERO), corner_x))
        qy = np.int32(min(max(cy, ZERO), corner_y))
        fx = cx - np.float32(qx)
        fy = cy - np.float32(qy)
        l, r = _tent(fx), _tent(_ONE - fx) * right
        t, b = _tent(fy), _tent(_ONE - fy) * down
        w00[k] = t * l
        w01[k] = t * r
        w10[k] = b * l
        w11[k] = b * r
        corner[k] = qy * columns + qx
        seen[k] = legacy | inside


@_jit
def _kernel(features, first, second, third, view_valid, confidence, mode, legacy, nearest_mm, start, stop, out):
    batch, views, rows, columns, channels = features.shape
    voxels = first.shape[3]
    corner = np.empty((views, voxels), np.int32)
    w00 = np.empty((views, voxels), np.float32)
    w01 = np.empty((views, voxels), np.float32)
    w10 = np.empty((views, voxels), np.float32)
    w11 = np.empty((views, voxels), np.float32)
    seen = np.empty((views, voxels), np.bool_)
    values = np.empty((views, channels), np.float32)
    mass = np.empty(channels, np.float32)
    top = np.empty(channels, np.float32)
    of_view = np.empty(views, np.int64)
    right = np.uint64(1 if columns > 1 else 0)
    down = np.uint64(columns if rows > 1 else 0)
    for row in range(start, stop):
        sample, i = divmod(row, voxels)
        for j in range(voxels):
            for v in range(views):
                if view_valid[sample, v]:
                    _locate(first[sample, v, :, i], second[sample, v, :, j], third[sample, v], columns, rows,
                            nearest_mm, legacy, corner[v], w00[v], w01[v], w10[v], w11[v], seen[v])
                else:
                    seen[v] = False
            for k in range(voxels):
                n = 0
                for v in range(views):
                    if not seen[v, k]:
                        continue
                    cells = features[sample, v].reshape(rows * columns, channels)
                    q = np.uint64(corner[v, k])
                    a, b, c, d = w00[v, k], w01[v, k], w10[v, k], w11[v, k]
                    for ch in range(channels):
                        values[n, ch] = (
                            a * cells[q, ch] + b * cells[q + right, ch] + c * cells[q + down, ch] + d * cells[q + down + right, ch]
                        )
                    of_view[n] = v
                    n += 1
                o = out[sample, i, j, k]
                if n == 0:
                    o[:] = 0
                elif mode == 0:
                    _sum(values[:n], o)
                elif mode == 1:
                    _max(values[:n], o)
                elif mode == 2:
                    _softmax(values[:n], top, mass, o)
                else:
                    o[:] = 0
                    for s in range(n):
                        for ch in range(channels):
                            o[ch] += confidence[sample, of_view[s], ch] * values[s, ch]
                    if mode == 4 and not legacy:
                        mass[:] = 0
                        for s in range(n):
                            for ch in range(channels):
                                mass[ch] += confidence[sample, of_view[s], ch]
                        for ch in range(channels):
                            o[ch] /= mass[ch] if mass[ch] > 0 else _ONE


@_jit
def _sum(values, o):
    for ch in range(o.shape[0]):
        o[ch] = values[0, ch]
    for s in range(1, values.shape[0]):
        for ch in range(o.shape[0]):
            o[ch] += values[s, ch]


@_jit
def _max(values, o):
    for ch in range(o.shape[0]):
        o[ch] = values[0, ch]
    for s in range(1, values.shape[0]):
        for ch in range(o.shape[0]):
            o[ch] = max(o[ch], values[s, ch])


@_jit
def _softmax(values, top, mass, o):
    _max(values, top)
    for ch in range(o.shape[0]):
        mass[ch] = 0
        o[ch] = 0
    for s in range(values.shape[0]):
        for ch in range(o.shape[0]):
            w = _exp(values[s, ch] - top[ch])
            mass[ch] += w
            o[ch] += w * values[s, ch]
    for ch in range(o.shape[0]):
        o[ch] /= mass[ch]


def unproject_fused(features, axes, view_valid, confidence, aggregation, legacy_alignment):
    batch, views, channels, rows, columns = features.shape
    voxels = axes[0].shape[-1]
    last = features.permute(0, 1, 3, 4, 2).contiguous().numpy()
    out = torch.empty(batch, voxels, voxels, voxels, channels)
    if confidence is None:
        confidence = torch.empty(batch, 0, 0)
    _kernel(last, *(a.contiguous().numpy() for a in axes), view_valid.numpy(), confidence.contiguous().numpy(),
            get_args(Aggregation).index(aggregation), legacy_alignment, _NEAREST_MM, 0, batch * voxels, out.numpy())
    return out.permute(0, 4, 1, 2, 3)
