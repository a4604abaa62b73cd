"""A z-buffer and a shader for the CPU, compiled by numba: deterministic, no graphics library needed.

Pixel centres are whole numbers, lengths are mm. `rasterise` finds the nearest triangle of every pixel; `shade` gives
every pixel its colour: a procedural pattern, one distant light with a shadow map, and light from all around.
"""

from __future__ import annotations

import math
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from tripose.compiled import compiled
from tripose.data.synthetic.patterns import COLOUR, COLOUR2, FREQUENCY, GLOSS, PATTERN, noise, pattern

# Triangles with a corner nearer to the camera than this are left out.
NEAREST_MM = 50.0
# How far behind what the light sees a point may lie and still be lit.
_SHADOW_BIAS_MM = 30.0


class Surface(NamedTuple):
    """What a picture shows in every pixel."""

    depth_mm: Float32[np.ndarray, "height width"]  # infinite where there is no triangle
    face: Int32[np.ndarray, "height width"]  # -1 where there is no triangle
    weights: Float32[np.ndarray, "height width 2"]  # of the face's first two corners, perspective-correct


class Shadow(NamedTuple):
    """What a distant light sees: depth along the light, over a plane across it."""

    depth_mm: Float32[np.ndarray, "side side"]
    axes: Float[np.ndarray, "3 3"]  # rows: across, across, along the light
    origin: Float[np.ndarray, " 2"]  # of the plane, mm
    scale: float | np.float32  # px per mm


class Light(NamedTuple):
    """One distant light, and light from all around."""

    direction: Float[np.ndarray, " 3"]  # towards the light, unit
    colour: Float[np.ndarray, " 3"]
    ambient: float


@compiled("synth")
@no_type_check
def rasterise(
    points_px: Float[np.ndarray, "vertex 2"],
    depth_mm: Float[np.ndarray, " vertex"],
    faces: Int32[np.ndarray, "face 3"],
    height: int,
    width: int,
) -> tuple[
    Float32[np.ndarray, "height width"], Int32[np.ndarray, "height width"], Float32[np.ndarray, "height width 2"]
]:
    """The nearest triangle of every pixel.

    Args:
        points_px: [vertex, 2] projections.
        depth_mm: [vertex].
        faces: [face, 3] vertices.
        height: of the picture.
        width: of the picture.

    Returns:
        The parts of a `Surface`.
    """
    depth = np.full((height, width), np.inf, np.float32)
    face = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        z0, z1, z2 = depth_mm[i], depth_mm[j], depth_mm[k]
        if z0 < NEAREST_MM or z1 < NEAREST_MM or z2 < NEAREST_MM:
            continue
        x0, y0, x1, y1, x2, y2 = (
            points_px[i, 0],
            points_px[i, 1],
            points_px[j, 0],
            points_px[j, 1],
            points_px[k, 0],
            points_px[k, 1],
        )
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0:
            continue
        left, right = max(0, math.ceil(min(x0, x1, x2))), min(width - 1, math.floor(max(x0, x1, x2)))
        top, bottom = max(0, math.ceil(min(y0, y1, y2))), min(height - 1, math.floor(max(y0, y1, y2)))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                a = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) / area
                b = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) / area
                c = 1.0 - a - b
                if a < 0 or b < 0 or c < 0:
                    continue
                d = 1.0 / (a / z0 + b / z1 + c / z2)
                if d < depth[y, x]:
                    depth[y, x] = d
                    face[y, x] = f
                    weights[y, x, 0] = a / z0 * d
                    weights[y, x, 1] = b / z1 * d
    return depth, face, weights


def cast_shadow(
    vertices_mm: Float[np.ndarray, "vertex 3"],
    faces: Int32[np.ndarray, "face 3"],
    direction: Float[np.ndarray, " 3"],
    side_px: int = 256,
) -> Shadow:
    """The shadow map of a distant light."""
    across = np.cross(direction, (0.3, 0.9, 0.1))
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(direction, across), -direction])
    seen = vertices_mm @ axes.T
    origin = seen[:, :2].min(0) - 50.0
    scale = side_px / ((seen[:, :2].max(0) - origin).max() + 50.0)
    # Far away, so that the perspective interpolation of depth is as good as linear.
    distance = 1e6 - seen[:, 2].min()
    depth, _, _ = rasterise((seen[:, :2] - origin) * scale, seen[:, 2] + distance, faces, side_px, side_px)
    return Shadow((depth - distance).astype(np.float32), axes, origin, scale)


@compiled("synth", fastmath=True)
@no_type_check
def _lit(wx, wy, wz, depth, axes, origin, scale):
    """Which part of the light reaches a point: nine samples of the shadow map."""
    sx = (axes[0, 0] * wx + axes[0, 1] * wy + axes[0, 2] * wz - origin[0]) * scale
    sy = (axes[1, 0] * wx + axes[1, 1] * wy + axes[1, 2] * wz - origin[1]) * scale
    along = axes[2, 0] * wx + axes[2, 1] * wy + axes[2, 2] * wz - _SHADOW_BIAS_MM
    column, row = int(sx), int(sy)
    if column < 1 or row < 1 or column >= depth.shape[1] - 1 or row >= depth.shape[0] - 1:
        return np.float32(1.0)
    lit = 0
    for a in range(-1, 2):
        for b in range(-1, 2):
            if depth[row + b, column + a] > along:
                lit += 1
    return np.float32(lit / 9.0)


@compiled("synth", fastmath=True)
@no_type_check
def _room(cx, cy, cz, dx, dy, dz, half_x, half_y, height):
    """Where a ray from inside a room (floor at 0) meets it: distance factor, axis, side."""
    nearest, axis, side = np.float32(1e12), 0, 0
    for a in range(3):
        d = dx if a == 0 else (dy if a == 1 else dz)
        o = cx if a == 0 else (cy if a == 1 else cz)
        low = -half_x if a == 0 else (-half_y if a == 1 else np.float32(0.0))
        high = half_x if a == 0 else (half_y if a == 1 else height)
        if d > 1e-9:
            t, s = (high - o) / d, 1
        elif d < -1e-9:
            t, s = (low - o) / d, 0
        else:
            continue
        if t > 0 and t < nearest:
            nearest, axis, side = t, a, s
    return nearest, axis, side


@compiled("synth", fastmath=True)
@no_type_check
def _on_mesh(face, a, b, dx, dy, dz, faces, normals, texture_m, material, seed):
    """What a ray meets on a triangle: the normal towards it, the share of the second colour, the grain."""
    c = np.float32(1.0) - a - b
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
    ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
    nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
    n = math.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9)
    if nx * dx + ny * dy + nz * dz > 0:
        n = -n
    tx = a * texture_m[i, 0] + b * texture_m[j, 0] + c * texture_m[k, 0]
    ty = a * texture_m[i, 1] + b * texture_m[j, 1] + c * texture_m[k, 1]
    tz = a * texture_m[i, 2] + b * texture_m[j, 2] + c * texture_m[k, 2]
    grain = np.float32(1.0) + np.float32(0.25) * (noise(tx * 9, ty * 9, tz * 9, seed + 3) - np.float32(0.5))
    grain += np.float32(0.12) * (noise(tx * 45, ty * 45, tz * 45, seed + 5) - np.float32(0.5))
    share = pattern(int(material[PATTERN]), material[FREQUENCY], tx, ty, tz, seed)
    return nx / n, ny / n, nz / n, share, grain


@compiled("synth", fastmath=True)
@no_type_check
def _on_wall(wx, wy, wz, axis, side, material, seed):
    """The same on a wall, the floor or the ceiling."""
    n = np.float32(-1.0) if side == 1 else np.float32(1.0)
    nx = n if axis == 0 else np.float32(0)
    ny = n if axis == 1 else np.float32(0)
    nz = n if axis == 2 else np.float32(0)
    m = np.float32(0.001)
    across = (wx if axis == 2 else wx + wy) * m
    upward = (wy if axis == 2 else wz) * m
    grain = np.float32(1.0) + np.float32(0.35) * (noise(wx * m * 3, wy * m * 3, wz * m * 3, seed + 9) - np.float32(0.5))
    kind, frequency = int(material[PATTERN]), material[FREQUENCY]
    share = pattern(kind, frequency, across, np.float32(0.3), upward, seed + 11 * axis + side)
    return nx, ny, nz, share, grain


@compiled("synth", fastmath=True)
@no_type_check
def _reflected(nx, ny, nz, dx, dy, dz, wx, wy, wz, gloss, direction, shadow):
    """How much of the light a point sends to the camera: by its colour, and by its gloss (Blinn and Phong)."""
    diffuse = nx * direction[0] + ny * direction[1] + nz * direction[2]
    shine = np.float32(0.0)
    if diffuse <= 0:
        return np.float32(0.0), shine
    lit = _lit(wx, wy, wz, shadow[0], shadow[1], shadow[2], shadow[3])
    if gloss > 0 and lit > 0:
        length = math.sqrt(dx * dx + dy * dy + dz * dz)
        hx, hy, hz = direction[0] - dx / length, direction[1] - dy / length, direction[2] - dz / length
        h = math.sqrt(hx * hx + hy * hy + hz * hz) + np.float32(1e-9)
        shine = max(np.float32(0.0), (nx * hx + ny * hy + nz * hz) / h) ** 24 * gloss * lit
    return diffuse * lit, shine


@compiled("synth", fastmath=True)
@no_type_check
def shade(
    surface: Surface,
    faces: Int32[np.ndarray, "face 3"],
    normals: Float32[np.ndarray, "vertex 3"],
    texture_m: Float32[np.ndarray, "vertex 3"],
    face_material: Int64[np.ndarray, " face"],
    materials: Float32[np.ndarray, "material 9"],
    room_mm: Float32[np.ndarray, " 3"],
    walls: Float32[np.ndarray, "6 9"],
    camera: tuple[Float32[np.ndarray, "3 3"], Float32[np.ndarray, "3 3"], Float32[np.ndarray, " 3"]],
    light: Light,
    shadow: Shadow,
    seed: int,
) -> Float32[np.ndarray, "height width 3"]:
    """The linear colours of a picture.

    Args:
        surface: a `Surface`.
        faces: [face, 3].
        normals: [vertex, 3] float32.
        texture_m: [vertex, 3] float32, where a vertex is in the pattern's space (the unposed body).
        face_material: [face] row of `materials`.
        materials: [material, N_MATERIAL] float32.
        room_mm: half width, half depth and height of the room.
        walls: [6, N_MATERIAL] materials of -x, +x, -y, +y, floor, ceiling.
        camera: (K^-1 [3, 3], R [3, 3], centre [3]) float32.
        light: a `Light`.
        shadow: a `Shadow`.
        seed: of the patterns.

    Returns:
        [height, width, 3] float32.
    """
    depth, face, weights = surface
    K_inverse, R, centre = camera
    direction, colour, ambient = light
    height, width = depth.shape
    image = np.empty((height, width, 3), np.float32)
    for y in range(height):
        for x in range(width):
            u = x * K_inverse[0, 0] + y * K_inverse[0, 1] + K_inverse[0, 2]
            v = y * K_inverse[1, 1] + K_inverse[1, 2]
            dx = R[0, 0] * u + R[1, 0] * v + R[2, 0]
            dy = R[0, 1] * u + R[1, 1] * v + R[2, 1]
            dz = R[0, 2] * u + R[1, 2] * v + R[2, 2]
            f, d, axis, side = face[y, x], depth[y, x], 0, 0
            if f < 0:
                d, axis, side = _room(centre[0], centre[1], centre[2], dx, dy, dz, room_mm[0], room_mm[1], room_mm[2])
            wx, wy, wz = centre[0] + dx * d, centre[1] + dy * d, centre[2] + dz * d
            if f >= 0:
                material = materials[face_material[f]]
                a, b = weights[y, x, 0], weights[y, x, 1]
                nx, ny, nz, share, grain = _on_mesh(f, a, b, dx, dy, dz, faces, normals, texture_m, material, seed)
            else:
                material = walls[axis * 2 + side]
                nx, ny, nz, share, grain = _on_wall(wx, wy, wz, axis, side, material, seed)
            diffuse, gloss = _reflected(nx, ny, nz, dx, dy, dz, wx, wy, wz, material[GLOSS], direction, shadow)
            around = ambient * (np.float32(0.75) + np.float32(0.25) * nz)
            for q in range(3):
                albedo = (material[COLOUR + q] * (1 - share) + material[COLOUR2 + q] * share) * grain
                image[y, x, q] = albedo * (around + diffuse * colour[q]) + gloss * colour[q]
    return image


@compiled("synth")
@no_type_check
def vertex_normals(
    vertices_mm: Float[np.ndarray, "vertex 3"], faces: Int32[np.ndarray, "face 3"]
) -> Float32[np.ndarray, "vertex 3"]:
    """Unit normals [vertex, 3] float32, weighted by the areas of the faces around."""
    normals = np.zeros(vertices_mm.shape, np.float64)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        u, v = vertices_mm[j] - vertices_mm[i], vertices_mm[k] - vertices_mm[i]
        n = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
        for q in range(3):
            normals[i, q] += n[q]
            normals[j, q] += n[q]
            normals[k, q] += n[q]
    for v in range(len(normals)):
        length = math.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-12
        normals[v] /= length
    return normals.astype(np.float32)
