"""Meshes in a room with a light, and their picture from a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from tripose.cameras import Cameras
from tripose.data.synthetic.bodies import Body, BodyModel
from tripose.data.synthetic.patterns import N_MATERIAL
from tripose.data.synthetic.raster import Light, Shadow, Surface, cast_shadow, rasterise, shade, vertex_normals


@dataclass(frozen=True)
class Mesh:
    """Triangles with a material each.

    Attributes:
        vertices_mm: world frame.
        normals: unit.
        texture_m: where a vertex is in the space in which patterns are painted.
        faces: vertices of each triangle.
        face_material: rows of `materials`.
        materials: see `raster`.
    """

    vertices_mm: Float[np.ndarray, "vertex 3"]
    normals: Float32[np.ndarray, "vertex 3"]
    texture_m: Float32[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    face_material: Int64[np.ndarray, " face"]
    materials: Float32[np.ndarray, "material 9"]


@dataclass(frozen=True)
class Scene:
    """Everything that cameras look at.

    Attributes:
        mesh: all things and people; triangles of the person that matters come first.
        room_mm: half width, half depth, height of the room; the floor is at 0.
        walls: materials of -x, +x, -y, +y, floor, ceiling.
        light: in the room.
        shadow: that the mesh casts.
        seed: of the patterns.
    """

    mesh: Mesh
    room_mm: Float32[np.ndarray, " 3"]
    walls: Float32[np.ndarray, "6 material"]
    light: Light
    shadow: Shadow
    seed: int


def person(
    model: BodyModel,
    body: Body,
    materials: Float32[np.ndarray, "part material"],
    thickness_mm: Float[np.ndarray, " part"],
    yaw_rad: float = 0.0,
    at_mm: tuple[float, float] = (0.0, 0.0),
) -> Mesh:
    """A dressed body, turned about the vertical and put somewhere on the floor."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    vertices = model.dressed(body, thickness_mm) @ turn.T + [*at_mm, 0.0]
    return Mesh(
        vertices, vertex_normals(vertices, model.faces), body.texture_m, model.faces, model.face_part, materials
    )


def box(
    centre_mm: Float[np.ndarray, " 3"],
    size_mm: Float[np.ndarray, " 3"],
    turn: Float[np.ndarray, "3 3"],
    material: Float[np.ndarray, " material"],
) -> Mesh:
    """A box: furniture, a pillar, a plank."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size_mm / 2
    vertices: list[Float[np.ndarray, "4 3"]] = []
    normals, faces = [], []
    for axis in range(3):
        for side in (-1, 1):
            start = 4 * len(vertices)
            vertices.append(corners[corners[:, axis] * side > 0])
            normals.append(np.tile(np.eye(3)[axis] * side, (4, 1)))
            faces += [[start, start + 1, start + 2], [start + 1, start + 3, start + 2]]
    local = np.concatenate(vertices)
    return Mesh(
        local @ turn.T + centre_mm,
        (np.concatenate(normals) @ turn.T).astype(np.float32),
        (local / 1000).astype(np.float32),
        np.array(faces, np.int32),
        np.zeros(len(faces), np.int64),
        material[None].astype(np.float32),
    )


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    first_vertex = np.cumsum([0] + [len(m.vertices_mm) for m in meshes])
    first_material = np.cumsum([0] + [len(m.materials) for m in meshes])
    return Mesh(
        np.concatenate([m.vertices_mm for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.texture_m for m in meshes]),
        np.concatenate([m.faces + np.int32(s) for m, s in zip(meshes, first_vertex, strict=False)]),
        np.concatenate([m.face_material + s for m, s in zip(meshes, first_material, strict=False)]),
        np.concatenate([m.materials for m in meshes]).reshape(-1, N_MATERIAL),
    )


def furnish(
    mesh: Mesh,
    room_mm: Float[np.ndarray, " 3"],
    walls: Float32[np.ndarray, "6 material"],
    light: Light,
    seed: int,
    decoration: Sequence[Mesh] = (),
) -> Scene:
    """A scene, its shadow cast; decoration casts none."""
    return Scene(
        join([mesh, *decoration]),
        room_mm.astype(np.float32),
        walls,
        light,
        cast_shadow(mesh.vertices_mm, mesh.faces, light.direction.astype(np.float64)),
        seed,
    )


def picture(
    scene: Scene, camera: Cameras, oversampling: float
) -> tuple[Float32[np.ndarray, "height width 3"], Surface]:
    """What a pinhole camera inside the room sees.

    Args:
        scene: what to look at.
        camera: one view; its lens is not looked at.
        oversampling: samples per pixel along an axis.

    Returns:
        Linear colours, and the surface (at the higher resolution).
    """
    width, height = camera.size_px[0].tolist()
    fine = camera.resize(camera.size_px.new_tensor([[round(width * oversampling), round(height * oversampling)]]))
    K, R, t = fine.K[0].numpy(), fine.R[0].numpy(), fine.t[0].numpy()
    seen = scene.mesh.vertices_mm @ R.T + t
    points = seen @ K.T
    depth = seen[:, 2]
    columns, rows = fine.size_px[0].tolist()
    surface = Surface(
        *rasterise(points[:, :2] / np.where(depth > 0, depth, 1)[:, None], depth, scene.mesh.faces, rows, columns)
    )
    inverse, turn, centre = (a.astype(np.float32) for a in (np.linalg.inv(K), R, -R.T @ t))
    shadow = scene.shadow
    image = shade(
        surface,
        scene.mesh.faces,
        scene.mesh.normals,
        scene.mesh.texture_m,
        scene.mesh.face_material,
        scene.mesh.materials,
        scene.room_mm,
        scene.walls,
        (inverse, turn, centre),
        scene.light,
        Shadow(
            shadow.depth_mm, shadow.axes.astype(np.float32), shadow.origin.astype(np.float32), np.float32(shadow.scale)
        ),
        scene.seed,
    )
    if (columns, rows) != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image, surface
