"""What a detector's keypoints do to heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from people import random_images, small_model
from tripose.geometry.heatmaps import cell_weights, expected_cells, to_pixels
from tripose.models.second_opinion import add_keypoints, flip_test

SIZE_PX = (256, 256)
LEFT, RIGHT = (61.5, 125.5), (193.5, 125.5)  # px of the centres of cells (15, 31) and (48, 31)


def test_a_mirrored_person_is_found_on_the_other_side():
    """A look at the mirror image of mirrored images is a look at the images."""
    model = small_model("algebraic", confidences="evidence", multiplier=1.0)
    images = random_images(2)
    with torch.inference_mode():
        seen, *_ = flip_test(model, images)
        mirrored, *_ = flip_test(model, images.flip(-1))
        once, *_ = model.encode_views(images)
    torch.testing.assert_close(mirrored.flip(-1)[:, :, model.config.joints.mirror], seen)
    assert not torch.allclose(seen, once.flatten(-2).log_softmax(-1).unflatten(-1, once.shape[-2:]), atol=1e-3)


def peaks(heights):
    """A heatmap with Gaussian peaks at `LEFT` and `RIGHT`, as the logarithms of their probabilities."""
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    total = torch.full((64, 64), 1e-6)
    for (x, y), height in zip((LEFT, RIGHT), heights, strict=True):
        total += height * torch.exp(-((column - (x - 1.5) / 4) ** 2 + (row - (y - 1.5) / 4) ** 2) / 4)
    return total.log()[None, None]


def seen_px(heatmaps):
    cells = expected_cells(cell_weights(heatmaps, 2, relu=False))
    return to_pixels(cells, SIZE_PX, (64, 64), legacy_alignment=False)[0, 0].numpy()


def asked(heatmaps, point_px, confidence):
    return add_keypoints(heatmaps, np.array([[point_px]], float), np.array([[confidence]]), SIZE_PX)


def test_it_decides_between_two_peaks():
    undecided = peaks([1, 1])
    assert seen_px(undecided)[0] == pytest.approx((LEFT[0] + RIGHT[0]) / 2, abs=1)
    np.testing.assert_allclose(seen_px(asked(undecided, RIGHT, 0.9)), RIGHT, atol=25)
    np.testing.assert_allclose(seen_px(asked(undecided, LEFT, 0.9)), LEFT, atol=25)


def test_what_it_says_alone_hardly_counts():
    one = peaks([1, 0])
    np.testing.assert_allclose(seen_px(asked(one, RIGHT, 0.9)), seen_px(one), atol=1)


@pytest.mark.parametrize(("point_px", "confidence"), [((np.nan, np.nan), 0.9), (LEFT, 0.0), (LEFT, np.nan)])
def test_nobody_asked_changes_nothing(point_px, confidence):
    heatmaps = peaks([1, 0.5])
    after = cell_weights(asked(heatmaps, point_px, confidence), 2, relu=False)
    torch.testing.assert_close(after, cell_weights(heatmaps, 2, relu=False))


def test_probabilities_are_multiplied():
    heatmaps = torch.randn(2, 3, 16, 24)
    points_px = np.random.default_rng(0).uniform(0, 60, (2, 3, 2))
    confidence = np.random.default_rng(1).uniform(0, 1, (2, 3))
    found = add_keypoints(heatmaps, points_px, confidence, (96, 64))
    row, column = 5, 7
    away_px = np.linalg.norm(points_px - np.array([4 * column + 1.5, 4 * row + 1.5]), axis=-1)
    sigma_px = 6.0 * 96 / 256
    opinion = torch.from_numpy(0.1 + confidence * np.exp(-0.5 * (away_px / sigma_px) ** 2)).log()
    torch.testing.assert_close(found[:, :, row, column], heatmaps[:, :, row, column] + opinion.float())
