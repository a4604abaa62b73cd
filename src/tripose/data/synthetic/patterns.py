"""Materials: two colours, and a procedural pattern in space that mixes them."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from tripose.compiled import compiled

_NOISE = np.random.default_rng(12345).random((32, 32, 32)).astype(np.float32)

# Columns of a row of materials: two colours, the pattern that mixes them, its frequency (1/m), gloss.
COLOUR, COLOUR2, PATTERN, FREQUENCY, GLOSS, N_MATERIAL = 0, 3, 6, 7, 8, 9
PLAIN, STRIPES, BARS, CHECKS, CLOUDS = range(5)


@compiled("synth", fastmath=True)
@no_type_check
def noise(x, y, z, seed):
    """Smooth random numbers in 0..1 in space, one a unit length."""
    x += np.float32((seed * 7) % 31)
    y += np.float32((seed * 13) % 29)
    z += np.float32((seed * 5) % 23)
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    x, y, z = x - fx, y - fy, z - fz
    x, y, z = x * x * (3 - 2 * x), y * y * (3 - 2 * y), z * z * (3 - 2 * z)
    i, j, k = int(fx) & 31, int(fy) & 31, int(fz) & 31
    i1, j1, k1 = (i + 1) & 31, (j + 1) & 31, (k + 1) & 31
    a = _NOISE[i, j, k] + (_NOISE[i, j, k1] - _NOISE[i, j, k]) * z
    b = _NOISE[i, j1, k] + (_NOISE[i, j1, k1] - _NOISE[i, j1, k]) * z
    c = _NOISE[i1, j, k] + (_NOISE[i1, j, k1] - _NOISE[i1, j, k]) * z
    d = _NOISE[i1, j1, k] + (_NOISE[i1, j1, k1] - _NOISE[i1, j1, k]) * z
    a += (b - a) * y
    c += (d - c) * y
    return a + (c - a) * x


@compiled("synth", fastmath=True)
@no_type_check
def pattern(kind, frequency, x, y, z, seed):
    """How much of the second colour there is, at a position in m."""
    if kind == STRIPES:
        return np.float32(math.sin(frequency * z) > 0)
    if kind == BARS:
        return np.float32(math.sin(frequency * x) > 0)
    if kind == CHECKS:
        return np.float32(math.sin(frequency * x) * math.sin(frequency * z) > 0)
    if kind == CLOUDS:
        coarse, fine = frequency * np.float32(0.4), frequency
        return noise(x * coarse, y * coarse, z * coarse, seed) * np.float32(0.7) + noise(
            x * fine, y * fine, z * fine, seed + 7
        ) * np.float32(0.3)
    return np.float32(0.0)
