"""Films of people that never were: the same ones for ever, and the truth is where the pictures show the person."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from tripose.cameras import Cameras
from tripose.data.synthetic.film import _Lens, film
from tripose.data.synthetic.looks import random_light, random_walls
from tripose.data.synthetic.patterns import N_MATERIAL
from tripose.data.synthetic.rigs import random_rig
from tripose.data.synthetic.scene import box, furnish, picture
from tripose.skeleton import HALPE26, LIMB_JOINTS

SIZE_PX = (240, 180)
MOMENTS = 12


@pytest.fixture(scope="module")
def stroll(bodies):
    """Six seconds, two frames a second: the person is somewhere else in most of them. [view, time, height, width, 3]"""
    made = film(5, MOMENTS, views=2, fps=2.0, size_px=SIZE_PX)
    return made, np.array(list(made.frames)).swapaxes(0, 1)


@pytest.mark.slow
def test_a_film_depends_on_its_seed_only(stroll):
    made, frames = stroll
    again = film(5, MOMENTS, views=2, fps=2.0, size_px=SIZE_PX)
    np.testing.assert_array_equal(again.truth.position_mm, made.truth.position_mm)
    assert torch.equal(again.cameras.P, made.cameras.P)
    assert torch.equal(again.cameras.distortion, made.cameras.distortion)
    for got, expected in zip(next(again.frames), frames[:, 0], strict=True):
        np.testing.assert_array_equal(got, expected)
    assert np.abs(film(6, 1, views=2).truth.position_mm - made.truth.position_mm[:1]).max() > 100


@pytest.mark.slow
def test_a_film_is_what_was_asked_for(stroll):
    made, frames = stroll
    assert frames.shape == (2, MOMENTS, SIZE_PX[1], SIZE_PX[0], 3)
    assert made.cameras.names == ("cam01", "cam02")
    assert set(made.cameras.lens) == {"opencv"}
    assert made.cameras.up == made.truth.up == "z"
    assert made.truth.skeleton == HALPE26
    assert made.truth.fps == 2
    assert made.truth.position_mm.shape == (MOMENTS, 1, 26, 3)
    lowest = made.truth.position_mm[:, 0, :, 2].min(-1)
    assert ((lowest > 0) & (lowest < 80)).all()  # a sole is below
    pelvis = made.truth.position_mm[:, 0, HALPE26.index("pelvis"), :2]
    assert np.ptp(pelvis, axis=0).max() > 500  # it strolls


@pytest.mark.slow
def test_the_truth_is_where_the_person_is_seen(stroll):
    """Cameras, exposures and noise stand still, so what differs from the median of the frames is a body or a shadow."""
    made, frames = stroll
    limbs = made.truth.position_mm[:, 0, HALPE26.indices(LIMB_JOINTS)]
    for camera, images in zip(made.cameras.names, frames.astype(int), strict=True):
        moving = np.abs(images - np.median(images, axis=0)).max(-1) > 25
        assert moving.mean() < 0.15
        points, _ = made.cameras.select([camera]).project(torch.from_numpy(limbs.reshape(-1, 3)))
        points = points[0].numpy().reshape(*limbs.shape[:2], 2)
        inside = ((points >= 0) & (points < np.array(SIZE_PX) - 1)).all(-1)
        frame, (x, y) = np.nonzero(inside)[0], points[inside].round().astype(int).T
        assert len(frame) > 100
        assert moving[frame, y, x].mean() > 0.85
        assert moving[(frame + MOMENTS // 2) % MOMENTS, y, x].mean() < 0.5


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_a_lens_bends_pictures_as_cameras_project(seed):
    """Small boxes from the middle to the corners of a distorted image."""
    rng = np.random.default_rng(seed)
    rig = random_rig(rng, 1, size_px=(320, 240), distorted=True)
    camera: Cameras = rig.select(["cam01"])
    lens = _Lens(camera)
    bends = []
    for x, y in ((160, 120), (45, 35), (275, 40), (40, 200), (280, 205)):
        ray = camera.rays(torch.tensor([[[x, y]]], dtype=torch.float64))[0, 0].numpy()
        where = camera.centers_mm[0].numpy() + 2000 * ray
        mesh = box(where, np.full(3, 60.0), np.eye(3), np.zeros(N_MATERIAL))
        scene = furnish(mesh, np.array([9000.0, 9000, 9000]), random_walls(rng), random_light(rng), 0)
        _, surface = picture(scene, lens.ideal, 1.0)
        seen = lens.bend(np.repeat((surface.face >= 0).astype(np.float32)[..., None], 3, -1))[..., 0]
        assert seen.shape == (240, 320)
        assert np.isfinite(seen).all()
        found = [(seen * grid).sum() / seen.sum() for grid in np.indices(seen.shape)]
        np.testing.assert_allclose(found, [y, x], atol=0.5)
        straight = camera.undistorted().project(torch.from_numpy(where)[None])[0][0, 0].numpy()
        bends.append(np.hypot(*(straight - [x, y])))
    assert max(bends) > 1


@pytest.mark.slow
def test_corners_that_a_strong_lens_cannot_have_seen_are_dark(bodies):
    made = film(93, 1, views=1, size_px=(160, 120))
    corners = torch.tensor([[[0, 0], [159, 119], [80, 60]]], dtype=torch.float64)
    assert made.cameras.undistort(corners).isnan().any(-1).tolist() == [[True, True, False]]
    (image,) = next(made.frames)
    assert image[[0, -1], [0, -1]].max() < 30 < image.mean()
