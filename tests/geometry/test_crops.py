from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from reference.crops import crop_pixel_by_pixel
from scene import ring
from tripose.geometry.crops import crop_person, square_box, to_crop, to_frame

LENSES = [[], [-0.28, 0.1, 0.001, -0.002]]


def frame_with_dot(camera, point_mm, radius_px=6.0):
    """A black frame with a soft round dot where the camera sees the point."""
    at = camera.project(torch.as_tensor(point_mm)[None])[0][0, 0].numpy()
    y, x = np.mgrid[0:1000, 0:1000]
    dot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius_px**2))
    return np.repeat((255 * dot).astype(np.uint8)[..., None], 3, -1)


def centroid(image):
    weight = image[..., 0].astype(float)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("distortion", LENSES)
@pytest.mark.parametrize("side", [150.0, 256.0, 600.3, 930.7])
def test_a_crop_is_a_camera(distortion, side):
    camera = ring(1, distortion=distortion)
    random = np.random.default_rng(int(side))
    for _ in range(3):
        point = np.array([0, 0, 1000.0]) + random.uniform(-700, 700, 3)
        at = camera.undistorted().project(torch.as_tensor(point)[None])[0][0, 0].numpy()
        middle = at + random.uniform(-0.2, 0.2, 2) * side
        box = np.concatenate([middle - side / 2, middle + side / 2])
        crop, view = crop_person(frame_with_dot(camera, point, radius_px=max(4, side / 100)), camera, box, 256)
        seen = view.project(torch.as_tensor(point)[None])[0][0, 0].numpy()
        # The dot of 8 bits and the lens's local stretch move a centroid by some hundredths of a pixel.
        np.testing.assert_allclose(centroid(crop), seen, atol=0.05)


def test_the_box_ends_where_the_crop_ends():
    camera = ring(1)
    _, view = crop_person(np.zeros((1000, 1000, 3), np.uint8), camera, np.array([200.3, 100.1, 700.3, 600.1]), 256)
    corners = np.array([[200.3, 100.1], [700.3, 600.1]])
    edges = np.array([[-0.5, -0.5], [255.5, 255.5]])
    np.testing.assert_allclose(to_frame(edges, view, camera), corners, atol=1e-9)
    assert view.size_px.tolist() == [[256, 256]]
    assert view.lens == ("pinhole",)


@pytest.mark.parametrize("distortion", LENSES)
def test_crop_equals_sampling_every_pixel(distortion):
    camera = ring(1, distortion=distortion)
    random = np.random.default_rng(0)
    frame = cv2.GaussianBlur(random.integers(0, 255, (1000, 1000, 3), np.uint8), (0, 0), 3)
    crop, view = crop_person(frame, camera, np.array([300.2, 250.7, 420.2, 370.7]), 128)
    y, x = np.mgrid[0:128, 0:128]
    raw = to_frame(np.stack([x, y], -1).reshape(-1, 2).astype(float), view, camera).reshape(128, 128, 2)
    expected = cv2.remap(frame, *np.moveaxis(raw.astype(np.float32), -1, 0), cv2.INTER_LINEAR)
    assert np.abs(crop.astype(int) - expected.astype(int)).max() <= 3


@pytest.mark.parametrize("distortion", LENSES)
@pytest.mark.parametrize("side", [170.0, 300.0, 437.5, 800.0])
def test_a_shrunken_crop_averages(distortion, side):
    """Against the mean of 64 positions in every pixel of the crop, each taken through the lens on its own."""
    camera = ring(1, distortion=distortion)
    random = np.random.default_rng(0)
    noise = cv2.GaussianBlur(random.normal(0, 1, (1000, 1000, 3)), (0, 0), 25)
    smooth = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    box = np.array([90.3, 100.7, 90.3 + side, 100.7 + side])
    crop, view = crop_person(smooth, camera, box, 64)
    offset = (np.arange(8) + 0.5) / 8 - 0.5
    y, x, dy, dx = np.meshgrid(np.arange(64), np.arange(64), offset, offset, indexing="ij")
    raw = to_frame(np.stack([x + dx, y + dy], -1).reshape(-1, 2), view, camera).astype(np.float32)
    samples = cv2.remap(smooth, *np.moveaxis(raw.reshape(512, 512, 2), -1, 0), cv2.INTER_LINEAR)
    assert np.abs(crop - samples.reshape(64, 64, 64, 3).mean(2)).mean() < 1.0

    # The finest pattern there is becomes grey; picking single pixels would leave it black and white.
    checkers = np.repeat(255 * (np.indices((1000, 1000)).sum(0) % 2)[..., None], 3, -1).astype(np.uint8)
    assert np.abs(crop_person(checkers, camera, box, 64)[0] - 127.5).mean() < 130 / (side / 64) ** 2


@pytest.mark.parametrize("distortion", LENSES)
def test_points_of_a_crop_go_to_where_the_frame_sees_them(distortion):
    camera = ring(1, distortion=distortion)
    _, view = crop_person(np.zeros((1000, 1000, 3), np.uint8), camera, np.array([200.0, 100.0, 700.0, 600.0]), 256)
    world = torch.as_tensor(np.random.default_rng(0).uniform([-600, -600, 300], [600, 600, 1700], (20, 3)))
    in_crop, in_frame = view.project(world)[0][0].numpy(), camera.project(world)[0][0].numpy()
    in_crop[3] = in_frame[3] = np.nan
    np.testing.assert_allclose(to_frame(in_crop, view, camera), in_frame, atol=1e-6)
    np.testing.assert_allclose(to_crop(in_frame, view, camera), in_crop, atol=1e-6)


def test_outside_of_the_frame_is_black():
    camera = ring(1)
    frame = np.full((1000, 1000, 3), 200, np.uint8)
    crop, _ = crop_person(frame, camera, np.array([-200.0, -200.0, 200.0, 200.0]), 64)
    assert (crop[:30, :30] == 0).all()
    assert (crop[34:, 34:] == 200).all()
    crop, _ = crop_person(frame, camera, np.array([2000.0, 2000.0, 2400.0, 2400.0]), 64)
    assert (crop == 0).all()


def test_a_folding_lens_shows_nothing_twice():
    """k1 = -0.33 turns back 45 degrees off the axis; a crop that reaches further must not show the image mirrored."""
    camera = ring(1, distortion=[-0.33, 0.0, 0.0, 0.0], focal_px=500.0)
    crop, view = crop_person(
        np.full((1000, 1000, 3), 200, np.uint8), camera, np.array([800.0, 300.0, 1600.0, 1100.0]), 200
    )
    y, x = np.mgrid[0:200, 0:200]
    radius = np.hypot(x - view.K[0, 0, 2].item(), y - view.K[0, 1, 2].item()) / view.K[0, 0, 0].item()
    fold = 1 / np.sqrt(3 * 0.33)
    assert (crop[radius > fold + 0.02] == 0).all()
    assert (crop[radius < fold - 0.02] == 200).all()


@pytest.mark.parametrize("box", [[300.2, 250.7, 700.2, 650.7], [-300, -200, 1300, 1400], [500, 100, 2100, 1700]])
@pytest.mark.parametrize(
    ("distortion", "folds"),
    [
        ([], False),
        ([-0.28, 0.1, 0.001, -0.002], False),
        ([-0.2, 0.2, 0.0, 0.0, 0.0], False),
        ([0.3, 0.0, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0], False),
        ([-0.33, 0.0, 0.0, 0.0], True),
        ([-0.5, 0.2, 0.004, -0.003, -0.05], True),
        ([-0.6, 0.12, 0.0, 0.0, 0.0], True),  # and unfolds again further out
    ],
)
def test_a_crop_equals_its_slow_twin(distortion, folds, box):
    camera = ring(1, distortion=distortion, focal_px=800.0)
    frame = np.random.default_rng(0).integers(1, 255, (1000, 1000, 3), np.uint8)
    crop, view = crop_person(frame, camera, np.array(box, dtype=float), 1024)  # not shrunken
    expected, behind = crop_pixel_by_pixel(frame, camera, view)
    if box[2] > 1000:
        assert behind.any() == folds
    # The last bit of a position may round a colour the other way.
    off = np.abs(crop.astype(int) - expected.astype(int))
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-4


def test_square_box():
    points = np.array([[10.0, 20.0], [30.0, 80.0], [np.nan, np.nan]])
    np.testing.assert_allclose(square_box(points, 1.5), [-25, 5, 65, 95])
    np.testing.assert_allclose(square_box(np.array([[5.0, 5.0]])), [4.5, 4.5, 5.5, 5.5])
