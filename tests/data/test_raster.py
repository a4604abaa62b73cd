"""The rasteriser against ray casting, and pictures against projections."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from reference.raster import cast_ray
from tripose.cameras import Cameras
from tripose.data.synthetic.looks import random_light, random_walls
from tripose.data.synthetic.patterns import N_MATERIAL
from tripose.data.synthetic.raster import rasterise, vertex_normals
from tripose.data.synthetic.rigs import LAYOUTS, looking_at, random_rig
from tripose.data.synthetic.scene import box, furnish, join, picture
from tripose.data.synthetic.sensor import compress, expose


def test_the_nearest_triangle_is_the_one_a_ray_meets():
    rng = np.random.default_rng(0)
    vertices = rng.uniform((-900, -700, 800), (900, 700, 3000), (60, 3))
    faces = rng.integers(0, 60, (40, 3)).astype(np.int32)
    K = np.array([[20.0, 1.5, 15.5], [0, 22.0, 11.5], [0, 0, 1]])
    seen = vertices @ K.T
    depth, face, weights = rasterise(seen[:, :2] / seen[:, 2:], vertices[:, 2], faces, 24, 32)
    assert (face >= 0).mean() > 0.5
    for y in range(24):
        for x in range(32):
            nearest, z = cast_ray(vertices[faces], np.linalg.solve(K, [x, y, 1.0]))
            assert face[y, x] == nearest
            if nearest >= 0:
                assert depth[y, x] == pytest.approx(z, rel=1e-5)
                a, b = weights[y, x]
                corners = vertices[faces[nearest]]
                met = a * corners[0] + b * corners[1] + (1 - a - b) * corners[2]
                np.testing.assert_allclose(met, np.linalg.solve(K, [x, y, 1.0]) * z, atol=0.05)


def test_triangles_behind_the_camera_are_not_seen():
    vertices = np.array([[-500.0, -500, -1000], [500, -500, -1000], [0, 500, -1000], [0, 0, 20]])
    _, face, _ = rasterise(vertices[:, :2], vertices[:, 2], np.array([[0, 1, 2], [0, 1, 3]], np.int32), 8, 8)
    assert (face == -1).all()


def test_a_thing_is_seen_where_it_projects_to():
    rig = random_rig(np.random.default_rng(3), 4, layout="ring")
    where = np.array([120.0, -80.0, 700.0])
    mesh = box(where, np.full(3, 60.0), np.eye(3), np.zeros(N_MATERIAL))
    rng = np.random.default_rng(0)
    scene = furnish(mesh, np.array([6000.0, 6000, 3000]), random_walls(rng), random_light(rng), 0)
    projected, _ = rig.project(torch.from_numpy(where)[None])
    for view, name in enumerate(rig.names):
        _, surface = picture(scene, rig.select([name]), 1.0)
        rows, columns = np.nonzero(surface.face >= 0)
        x, y = projected[view, 0].tolist()
        assert np.hypot(columns.mean() - x, rows.mean() - y) < 0.35


def test_oversampling_moves_nothing():
    camera = random_rig(np.random.default_rng(4), 1).select(["cam01"])
    camera = camera.resize(torch.tensor([[160, 120]]))
    mesh = box(np.array([0.0, 0, 900]), np.array([500.0, 300, 1200]), np.eye(3), np.full(N_MATERIAL, 0.9))
    walls = np.zeros((6, N_MATERIAL), np.float32)
    scene = furnish(mesh, np.array([6000.0, 6000, 3000]), walls, random_light(np.random.default_rng(0)), 0)
    means = []
    for oversampling in (1.0, 3.0):
        image, _ = picture(scene, camera, oversampling)
        weight = image.sum(-1)
        means.append([(weight * i).sum() / weight.sum() for i in np.indices(weight.shape)])
    np.testing.assert_allclose(means[0], means[1], atol=0.05)


def test_a_thing_between_light_and_floor_casts_a_shadow():
    mesh = box(np.array([0.0, 0, 1000]), np.array([400.0, 400, 20]), np.eye(3), np.zeros(N_MATERIAL))
    walls = np.full((6, N_MATERIAL), 0.8, np.float32)
    walls[:, 6:] = 0
    light = random_light(np.random.default_rng(0))._replace(direction=np.array([0, 0, 1], np.float32), ambient=0.1)
    scene = furnish(mesh, np.array([3000.0, 3000, 4000]), walls, light, 0)
    centre, R = np.array([1500.0, 0, 700.0]), looking_at(np.array([1500.0, 0, 700]), np.zeros(3), 0.0)
    K = [[200.0, 0, 99.5], [0, 200.0, 99.5], [0, 0, 1]]
    camera = Cameras.build(["c"], [K], [R], [-R @ centre], [[200, 200]])
    image, _ = picture(scene, camera, 1.0)
    points, _ = camera.project(torch.tensor([[0.0, 0, 0], [0, 500, 0]], dtype=torch.float64))
    dark, bright = (image[round(float(y)), round(float(x))].mean() for x, y in points[0])
    assert dark < 0.4 * bright


def test_normals_point_out_of_a_box():
    mesh = box(np.zeros(3), np.array([100.0, 200, 300]), np.eye(3), np.zeros(N_MATERIAL))
    computed = vertex_normals(mesh.vertices_mm, mesh.faces)
    assert np.allclose(np.abs((computed * mesh.normals).sum(1)), 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("views", [1, 2, 8])
def test_rigs_look_at_the_person(layout, views):
    for seed in range(20):
        rig = random_rig(np.random.default_rng(seed), views, layout=layout, distorted=True)
        points, in_front = rig.project(torch.tensor([[0.0, 0, 900]], dtype=torch.float64))
        assert in_front.all()
        assert ((points[:, 0] > 0) & (points[:, 0] < rig.size_px)).all()
        assert (rig.centers_mm[:, :2].norm(dim=-1) >= 2300 - 1e-6).all()


def test_the_sensor_is_deterministic_and_not_always_the_same():
    linear = np.random.default_rng(0).random((64, 48, 3)).astype(np.float32)
    images = [expose(linear, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert images[0].shape == linear.shape
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()
    codes = [compress(images[0], np.random.default_rng(1)) for _ in range(2)]
    assert codes[0] == codes[1]


def test_joined_meshes_keep_their_materials():
    a = box(np.zeros(3), np.full(3, 100.0), np.eye(3), np.full(N_MATERIAL, 0.25))
    b = box(np.ones(3), np.full(3, 100.0), np.eye(3), np.full(N_MATERIAL, 0.75))
    both = join([a, b])
    np.testing.assert_array_equal(both.vertices_mm[both.faces[12:]], b.vertices_mm[b.faces])
    assert (both.materials[both.face_material[:12]] == 0.25).all()
    assert (both.materials[both.face_material[12:]] == 0.75).all()
