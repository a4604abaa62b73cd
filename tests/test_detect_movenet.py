import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tripose.detect.movenet import (
    BOX_SCALE,
    MAX_PEOPLE,
    Detections,
    detect_people,
    estimate_keypoints,
    load_multipose,
    load_thunder,
)
from tripose.models.movenet import MoveNet

H36M = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "h36m_mmpose"
needs_images = pytest.mark.skipif(not H36M.exists(), reason="no real images here")
# The mirror image of each COCO joint.
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
# COCO joints and the same joints in the Human3.6M annotation: shoulders, elbows, wrists, knees, ankles.
COCO, H36M_JOINTS = [5, 6, 7, 8, 9, 10, 13, 14, 15, 16], [11, 14, 12, 15, 13, 16, 5, 2, 6, 3]


@pytest.fixture(scope="module")
def thunder():
    return load_thunder()


@pytest.fixture(scope="module")
def multipose():
    return load_multipose()


@pytest.fixture(scope="module")
def photo():
    """A real frame (1000 px), its keypoints [17 2] and its box."""
    annotations = json.loads((H36M / "h36m_coco.json").read_text())
    image = next(i for i in annotations["images"] if i["file_name"].startswith("S1_"))
    truth = next(a for a in annotations["annotations"] if a["image_id"] == image["id"])
    (path,) = H36M.rglob(image["file_name"])
    return cv2.imread(str(path))[..., ::-1], np.reshape(truth["keypoints"], (17, 3))[:, :2], np.array(truth["bbox"])


def square(image, center, side):
    """The square crop with integer corners as 256 x 256 px; its left top corner and the image pixels per crop pixel."""
    left, top = (round(c - side / 2) for c in center)
    side = round(side)
    padded = cv2.copyMakeBorder(image, side, side, side, side, cv2.BORDER_CONSTANT)
    crop = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    return cv2.resize(crop, (256, 256), interpolation=cv2.INTER_AREA), np.array([left, top]), side / 256


class Painted(MoveNet):
    """A model whose heads show given people, whatever the image: heatmap bumps, centres, regressions and boxes.

    `people` [person 17 2] are keypoints in input pixels, `seen` the height of each bump as a probability.
    """

    def __init__(self, people, size=(256, 256), seen=0.9, sigma_cells=1.0, regressed=None):
        super().__init__(0.35, boxes=True)
        rows, columns = size[0] // 4, size[1] // 4
        people = np.asarray(people, float)
        cells = (people + 0.5) / 4 - 0.5  # the index of a cell is the coordinate of its centre here
        y, x = np.mgrid[:rows, :columns]
        probability = np.full((17, rows, columns), 1e-6)
        center = np.full((1, rows, columns), 1e-6)
        regression = np.zeros((17, 2, rows, columns))
        box_size, box_offset = np.zeros((2, rows, columns)), np.zeros((2, rows, columns))
        for person, coarse in zip(cells, people if regressed is None else np.asarray(regressed), strict=True):
            d2 = (x - person[:, 0, None, None]) ** 2 + (y - person[:, 1, None, None]) ** 2
            probability = np.maximum(probability, seen * np.exp(-d2 / (2 * sigma_cells**2)))
            column, row = np.round(((coarse + 0.5) / 4 - 0.5).mean(0)).astype(int)
            center[0, row, column] = 0.9
            regression[:, :, row, column] = (coarse + 0.5) / 4 - 0.5 - [column, row]
            box_size[:, row, column] = np.ptp(person, 0) * 1.4
            # From the corner of the cell, not from its centre.
            box_offset[:, row, column] = (person.min(0) + person.max(0)) / 2 + 0.5 - [column, row]
        logit = {"keypoint_heatmap": probability, "center_heatmap": center}
        heads = {k: np.log(v / (1 - v)) for k, v in logit.items()}
        heads |= {"keypoint_regression": regression, "box_size": box_size, "box_offset": box_offset}
        self.heads = {k: torch.tensor(v, dtype=torch.float32) for k, v in heads.items()}

    def forward(self, images):
        assert images.shape[2] == 4 * self.heads["center_heatmap"].shape[1]
        return {k: v.expand(len(images), *v.shape) for k, v in self.heads.items()}


def stick_person(center=(128, 128), size=120, seed=0):
    return np.random.default_rng(seed).uniform(-size / 2, size / 2, (17, 2)) + center


def test_a_bump_is_read_in_pixels_whose_centres_are_integers():
    points = stick_person()
    found, confidence = estimate_keypoints(Painted([points]), np.zeros((2, 256, 256, 3), np.uint8))
    assert found.shape == (2, 17, 2)
    # A bump of any sub-cell position: 0.15 px allows for the finite window, a convention error is 0.5 or 2 px.
    np.testing.assert_allclose(found[0], points, atol=0.15)
    assert np.all((confidence > 0.6) & (confidence < 0.91))


def test_a_peak_at_the_border_stays_in_the_crop():
    points = stick_person()
    points[9], points[10] = (0.0, 0.0), (255.0, 100.0)
    found, _ = estimate_keypoints(Painted([points]), np.zeros((1, 256, 256, 3), np.uint8))
    np.testing.assert_allclose(found[0, [9, 10]], points[[9, 10]], atol=4.0)
    assert found.min() >= -0.5
    assert found.max() <= 255.5


def test_an_expected_place_decides_between_two_people():
    near, far = stick_person(), stick_person((60, 200), 80, 1)
    model, crops = Painted([near, far]), np.zeros((1, 256, 256, 3), np.uint8)
    found, _ = estimate_keypoints(model, crops)
    np.testing.assert_allclose(found[0], near, atol=3)
    expected = far[None] + 10
    expected[0, 4] = np.nan
    found, _ = estimate_keypoints(model, crops, expected)
    known = np.arange(17) != 4
    assert np.median(np.linalg.norm(found[0] - far, axis=-1)[known]) < 3
    np.testing.assert_allclose(found[0, 4], near[4], atol=3)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (1002, 1000), (100, 64)])
def test_people_are_in_pixels_of_the_given_image(size):
    factor = 256 / max(size)
    new = [round(s * factor) for s in size]
    padded = [-(-s // 32) * 32 for s in new]
    scale = np.array([new[1] / size[1], new[0] / size[0]])
    points = stick_person(np.array(size)[::-1] / 2, 0.4 * min(size))
    model = Painted([(points + 0.5) * scale - 0.5], padded)
    (people,) = detect_people(model, np.zeros((1, *size, 3), np.uint8))
    assert people.score.shape == (1,)
    np.testing.assert_allclose(people.points_px[0], points, atol=0.15 / factor)
    middle, half = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0) * 0.7
    np.testing.assert_allclose(people.box_px[0], [*middle - half, *middle + half], atol=0.01 / factor)


def test_one_person_with_two_centres_is_one_person():
    points = stick_person()
    model = Painted([points, points], regressed=[points, points + 12])
    (people,) = detect_people(model, np.zeros((1, 256, 256, 3), np.uint8))
    assert len(people.score) == 1


def test_best_person_first_and_no_more_than_six():
    people = [stick_person((30 + 40 * i, 60 + 100 * j), 30, 3 * i + j) for i in range(5) for j in range(2)]
    (found,) = detect_people(Painted(people), np.zeros((1, 256, 256, 3), np.uint8))
    assert len(found.score) == MAX_PEOPLE
    assert np.all(np.diff(found.score) <= 0)


def test_nobody_in_a_black_image(multipose):
    found = detect_people(multipose, np.zeros((2, 120, 200, 3), np.uint8))
    assert len(found) == 2
    for people in found:
        assert isinstance(people, Detections)
        assert people.points_px.shape == (0, 17, 2)
        assert people.confidence.shape == (0, 17)
        assert people.box_px.shape == (0, 4)
        assert people.score.shape == (0,)


@pytest.mark.parametrize(
    ("crops", "got"),
    [
        (np.zeros((1, 128, 256, 3), np.uint8), "128"),
        (np.zeros((1, 256, 256, 3), np.float32), "float32"),
        (np.zeros((256, 256, 3), np.uint8), r"\[256, 256, 3\]"),
    ],
)
def test_wrong_crops_are_an_error(thunder, crops, got):
    with pytest.raises(ValueError, match=rf"expected uint8 crops.*got.*{got}"):
        estimate_keypoints(thunder, crops)


def test_wrong_expected_keypoints_or_images_are_an_error(thunder, multipose):
    with pytest.raises(ValueError, match=r"expected_px.*\[1, 17, 2\].*got \[1, 16, 2\]"):
        estimate_keypoints(thunder, np.zeros((1, 256, 256, 3), np.uint8), np.zeros((1, 16, 2)))
    with pytest.raises(ValueError, match=r"expected uint8 images.*got float64"):
        detect_people(multipose, np.zeros((1, 64, 64, 3)))


@needs_images
def test_a_real_person_is_found_and_measured(thunder, multipose, photo):
    image, truth, _ = photo
    (people,) = detect_people(multipose, image[None])
    assert len(people.score) == 1
    box = people.box_px[0]
    assert np.all(box[:2] - 30 < truth.min(0))
    assert np.all(truth.max(0) < box[2:] + 30)
    whole = np.linalg.norm(people.points_px[0, COCO] - truth[H36M_JOINTS], axis=-1)
    assert np.median(whole) < 20
    crop, corner, scale = square(image, (box[:2] + box[2:]) / 2, BOX_SCALE * np.max(box[2:] - box[:2]))
    points, confidence = estimate_keypoints(thunder, crop[None])
    found = (points[0] + 0.5) * scale - 0.5 + corner
    distance = np.linalg.norm(found[COCO] - truth[H36M_JOINTS], axis=-1)
    assert np.median(distance) < 12
    assert np.all((confidence >= 0) & (confidence <= 1))
    assert np.median(confidence) > 0.4


@needs_images
@pytest.mark.parametrize("shift", [(16, 0), (-12, 20), (5, 3)])
def test_a_shifted_crop_moves_the_keypoints_by_the_shift(thunder, photo, shift):
    image, truth, _ = photo
    side = 1.4 * np.ptp(truth, axis=0).max()
    crop, _, _ = square(image, (truth.min(0) + truth.max(0)) / 2, side)
    moved = cv2.warpAffine(crop, np.float64([[1, 0, shift[0]], [0, 1, shift[1]]]), (256, 256))
    points, confidence = estimate_keypoints(thunder, np.stack([crop, moved]))
    both = confidence.min(0) > 0.3
    assert both.sum() > 8
    np.testing.assert_allclose(np.median((points[1] - points[0])[both], axis=0), shift, atol=0.6)


@needs_images
def test_a_mirrored_crop_mirrors_the_keypoints(thunder, photo):
    image, truth, _ = photo
    crop, _, _ = square(image, (truth.min(0) + truth.max(0)) / 2, 1.4 * np.ptp(truth, axis=0).max())
    points, confidence = estimate_keypoints(thunder, np.stack([crop, crop[:, ::-1]]))
    mirrored, both = points[1][MIRRORED], np.minimum(confidence[0], confidence[1][MIRRORED]) > 0.3
    # Pixel centres are integers: x and 255 - x. Reading cell indices as cell centres would give 3 px.
    assert abs(np.median((points[0, :, 0] + mirrored[:, 0] - 255)[both])) < 1.0
    assert abs(np.median((points[0, :, 1] - mirrored[:, 1])[both])) < 1.0


@needs_images
def test_padding_the_image_moves_the_people_by_the_padding(multipose, photo):
    image, _, _ = photo
    image = image[:1000, 200:800]
    (a,) = detect_people(multipose, image[None])
    # The long side and with it the scale stay the same.
    (b,) = detect_people(multipose, np.pad(image, ((0, 0), (125, 50), (0, 0)))[None])
    assert len(a.score) == len(b.score) == 1
    both = np.minimum(a.confidence, b.confidence)[0] > 0.3
    np.testing.assert_allclose(np.median((b.points_px - a.points_px)[0, both], axis=0), [125, 0], atol=2.0)
    np.testing.assert_allclose(b.box_px - a.box_px, [[125, 0, 125, 0]], atol=12.0)
