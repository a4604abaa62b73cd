"""Precision and recall of several people: known answers, what must not matter, and a twin of plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import people as twin
from scene import ring, walk_mm
from tripose.data.panoptic.protocol import MULTI_PERSON
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.evaluation.people import (
    THRESHOLDS_MM,
    Matches,
    average_precision,
    figures,
    match_people,
    people_cells,
    people_table,
    pool,
    shared_joints,
)
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, H36M17, PANOPTIC19

NAN = math.nan
PRECISIONS = [f"ap_{t:.0f}mm" for t in THRESHOLDS_MM]


def three_people(frames=6):
    """[time, 3, 17, 3]"""
    return np.stack([walk_mm(frames, angle=a) for a in (0.0, 2.0, 4.0)], 1)


def scene_of(people_mm, numbers=None):
    """The truth of some frames, all if none are named; who has no joint is no row."""
    numbers = range(len(people_mm)) if numbers is None else numbers
    rows = [(n, person) for n in numbers for person in people_mm[n] if np.isfinite(person).any()]
    keypoints_mm = np.stack([person for _, person in rows])
    return Scene("hall", ring(2), {}, np.array([n for n, _ in rows]), keypoints_mm, COCO17)


def poses_of(people_mm, confidence=None):
    confidence = np.full(people_mm.shape[:-1], 0.9) if confidence is None else confidence
    persons = tuple(f"person_{i}" for i in range(people_mm.shape[1]))
    return Pose3D(people_mm, confidence, COCO17, 30.0, persons)


def measured(poses, scene):
    return figures(match_people(poses, scene, COCO17.joints))


def random_case(seed):
    """People who are found well, badly, twice, in part or not at all; scores that are sometimes equal."""
    random = np.random.default_rng(seed)
    frames, people, joints = random.integers(1, 6), random.integers(1, 4), len(COCO17)
    truth = random.normal(0, 300, (frames, people, 1, 3)) + random.normal(0, 200, (frames, people, joints, 3))
    extra = random.normal(0, 300, (frames, 2, joints, 3))
    near = truth[:, random.integers(0, people, people + 1)]
    near = near + random.normal(0, 1, near.shape) * random.choice([5, 40, 90, 300], (*near.shape[:2], 1, 1))
    found = np.concatenate([near, extra], 1)
    found[random.random(found.shape[:3]) < random.choice([0.0, 0.2, 0.5])] = NAN
    found[random.random(found.shape[:2]) < 0.2] = NAN
    truth[random.random(truth.shape[:3]) < random.choice([0.0, 0.3])] = NAN
    truth[0, 0, 0] = 0.0  # somebody is there
    confidence = random.random(found.shape[:3])
    if random.random() < 0.5:
        confidence = np.round(confidence.mean(-1, keepdims=True), 1) + np.zeros(joints)
    confidence[random.random(confidence.shape) < 0.1] = NAN
    return poses_of(found, confidence), scene_of(truth)


def as_frames(poses, scene):
    for n in sorted(set(scene.frame.tolist())):
        predicted = list(zip(poses.position_mm[n].tolist(), poses.confidence[n].tolist(), strict=True))
        yield predicted, scene.keypoints_mm[scene.frame == n].tolist()


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_figures_equal_their_twin(seed):
    poses, scene = random_case(seed)
    assert measured(poses, scene) == pytest.approx(twin.figures(as_frames(poses, scene)), nan_ok=True, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_people_does_not_matter(seed):
    poses, scene = random_case(seed)
    random = np.random.default_rng(seed)
    order = random.permutation(poses.position_mm.shape[1])
    moved = poses_of(poses.position_mm[:, order], poses.confidence[:, order])
    assert measured(moved, scene) == pytest.approx(measured(poses, scene), nan_ok=True)
    rows = np.lexsort((random.random(len(scene.frame)), scene.frame))
    other = replace(scene, frame=scene.frame[rows], keypoints_mm=scene.keypoints_mm[rows])
    assert measured(poses, other) == pytest.approx(measured(poses, scene), nan_ok=True)


def test_a_perfect_result():
    people = three_people()
    found = measured(poses_of(people), scene_of(people, [0, 3]))
    assert (found["people"], found["found"]) == (6, 6)
    assert [found[name] for name in (*PRECISIONS, "recall_500mm")] == [1.0] * 7
    assert (found["mpjpe_mm"], found["missing"]) == (0.0, 0.0)


def test_a_shift_is_its_mpjpe_and_decides_at_the_threshold():
    people = three_people()
    found = measured(poses_of(people + np.array([0.0, 0.0, 60.0])), scene_of(people))
    assert found["mpjpe_mm"] == pytest.approx(60.0)
    assert [found[name] for name in PRECISIONS] == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("score", "precision", "mpjpe_mm"),
    [
        (0.5, 1.0, 0.0),  # after all hits, where the published area has no room for it
        (0.9, 3 / 4, 0.0),  # in a tie
        (0.95, 1 / 3 + 2 / 3 * 3 / 4, 3**0.5 / 3),  # before: the copy is the hit
    ],
)
def test_a_duplicate_lowers_precision_alone(score, precision, mpjpe_mm):
    people = three_people()
    twice = np.concatenate([people, people[:, :1] + 1.0], 1)
    confidence = np.full(twice.shape[:-1], 0.9)
    confidence[:, 3] = score
    found = measured(poses_of(twice, confidence), scene_of(people))
    assert [found[name] for name in PRECISIONS] == pytest.approx([precision] * 6)
    assert found["mpjpe_mm"] == pytest.approx(mpjpe_mm)
    assert found["recall_500mm"] == 1.0


def test_one_score_is_a_tie_however_many_joints_have_it():
    people = three_people()
    found = np.concatenate([people, people[:, :1] + 9000.0], 1)
    found[:, 3, :7] = NAN  # the mean of ten times 0.7 is not that of 17 times 0.7
    tied = measured(poses_of(found, np.full(found.shape[:-1], 0.7)), scene_of(people))
    assert tied["ap_25mm"] == pytest.approx(3 / 4)


def test_somebody_missed_lowers_recall():
    people = three_people()
    some = people.copy()
    some[:, 2] = NAN
    found = measured(poses_of(some), scene_of(people))
    assert (found["found"], found["recall_500mm"]) == (12, pytest.approx(2 / 3))
    assert [found[name] for name in PRECISIONS] == pytest.approx([2 / 3] * 6)
    assert found["mpjpe_mm"] == 0.0


def test_frames_without_a_truth_do_not_count():
    people = three_people()
    wrong = people.copy()
    wrong[1:] += 5000.0
    assert measured(poses_of(wrong), scene_of(people, [0]))["ap_25mm"] == 1.0


def test_half_of_the_joints_are_needed():
    people = three_people()
    some = people.copy()
    some[:, :, :8] = NAN  # 9 of 17 are left
    found = measured(poses_of(some), scene_of(people))
    assert (found["ap_25mm"], found["missing"]) == (1.0, pytest.approx(8 / 17))
    some[:, :, 8] = NAN
    found = measured(poses_of(some), scene_of(people))
    assert (found["ap_150mm"], found["recall_500mm"], found["found"]) == (0.0, 0.0, 18)
    assert math.isnan(found["mpjpe_mm"])
    truth = people.copy()
    truth[:, :, :8] = NAN  # joints that nobody knows are not asked for
    assert measured(poses_of(some), scene_of(truth))["ap_25mm"] == 1.0


def test_the_area_is_under_the_envelope():
    """Hits, by falling score: yes, no, yes, yes; five people. Precision 1, 1/2, 2/3, 3/4, at best 1, 3/4, 3/4, 3/4."""
    matches = Matches(
        distance_mm=np.array([10.0, 900.0, 10.0, 10.0]),
        score=np.array([0.9, 0.8, 0.7, 0.6]),
        truth=np.array([0, 1, 2, 3]),
        missing=np.zeros(4),
        people=5,
    )
    assert average_precision(matches, 25.0) == pytest.approx((1 + 3 / 4 + 3 / 4) / 5)
    level = replace(matches, score=np.full(4, 0.5))
    assert average_precision(level, 25.0) == pytest.approx(3 / 5 * 3 / 4)


def test_scenes_are_pooled():
    people = three_people()
    good = match_people(poses_of(people), scene_of(people), COCO17.joints)
    bad = match_people(poses_of(people + 2000.0), scene_of(people, [0, 1]), COCO17.joints)
    table = people_table({"first": good, "second": bad})
    assert [(r["scene"], r["people"], r["recall_500mm"]) for r in table] == [
        ("first", 18, 1.0),
        ("second", 6, 0.0),
        ("all", 24, 0.75),
    ]
    assert table[2]["mpjpe_mm"] == 0.0
    assert table[2] == {"scene": "all", **figures(pool([good, bad]))}
    head, *rows = people_cells(table)
    assert len(head) == len(rows[0]) == 12
    assert rows[1][-2:] == ["", ""]
    assert len(people_table({"first": good})) == 1


def test_joints_are_shared_by_name():
    assert shared_joints([PANOPTIC19], PANOPTIC19) == MULTI_PERSON.joints
    shared = shared_joints([COCO17], PANOPTIC19)
    assert len(shared) == 13
    assert "pelvis" not in shared
    assert shared_joints([COCO17], COCO17) == COCO17.joints
    assert len(shared_joints([COCO17, H36M17], PANOPTIC19)) == 13


def test_other_orders_of_joints_are_the_same_people():
    people = three_people()
    joints = shared_joints([COCO17], PANOPTIC19)
    truth = np.full((*people.shape[:2], len(PANOPTIC19), 3), NAN)
    truth[:, :, PANOPTIC19.indices(joints)] = people[:, :, COCO17.indices(joints)]
    scene = replace(scene_of(truth), skeleton=PANOPTIC19)
    assert figures(match_people(poses_of(people), scene, joints))["mpjpe_mm"] == 0.0


def test_a_scene_without_anybody_is_refused():
    people = three_people()
    scene = replace(scene_of(people), keypoints_mm=np.full((18, 17, 3), NAN))
    with pytest.raises(TriposeError, match="the scene 'hall' has no truth"):
        match_people(poses_of(people), scene, COCO17.joints)
