from __future__ import annotations

import numpy as np
import pytest
import torch

from scene import observe, ring, walk_mm
from tripose.associate import find_person, middle_mm
from tripose.track import follow_keypoints


def split(observed):
    return observed[..., :2].copy(), observed[..., 2].copy()


def error_mm(position, truth):
    return float(np.nanmax(np.linalg.norm(position - truth, axis=-1)))


def test_cameras_of_a_ring_look_at_its_middle():
    middle, radius = middle_mm(ring(5))
    np.testing.assert_allclose(middle, [0, 0, 1000], atol=5)
    assert float(radius) == pytest.approx(np.hypot(4000, 500), rel=0.01)


def test_middle_of_parallel_cameras_is_finite():
    cameras = ring(2)
    same = type(cameras)(**{**cameras.__dict__, "R": cameras.R[:1].expand(2, 3, 3).contiguous()})
    middle, radius = middle_mm(same)
    assert torch.isfinite(middle).all()
    assert float(radius) > 0


def test_finds_the_person_in_the_middle_among_others_in_any_order():
    cameras = ring(4)
    me, other, far = walk_mm(1), walk_mm(1, 2200, 2.0), walk_mm(1, 2500, 4.0)
    points, score = split(observe(cameras, [me, other, far])[0])
    order = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]])
    shuffled = np.take_along_axis(points, order[:, :, None, None], 1)
    match = find_person(cameras, shuffled, np.take_along_axis(score, order[:, :, None], 1))
    assert match is not None
    assert match.person.tolist() == [0, 1, 2, 2]
    assert error_mm(match.position_mm, me[0]) < 15


def test_follows_the_person_it_knows_even_when_another_is_nearer_to_the_middle():
    cameras = ring(4)
    me, other = walk_mm(1, 1800), walk_mm(1, 0, 2.0)
    points, score = split(observe(cameras, [me, other])[0])
    assert find_person(cameras, points, score).person.tolist() == [1, 1, 1, 1]
    assert find_person(cameras, points, score, me[0] + 100).person.tolist() == [0, 0, 0, 0]


def test_two_views_of_one_body_and_two_of_another_are_never_averaged():
    cameras = ring(4)
    a, b = walk_mm(1), walk_mm(1) + np.array([1500.0, 0, 0])
    points, score = split(observe(cameras, [a, b])[0])
    mixed, mixed_score = points[:, :1].copy(), score[:, :1]
    mixed[2:] = points[2:, 1:]
    match = find_person(cameras, mixed, mixed_score, a[0])
    assert match is not None
    assert match.person.tolist() == [0, 0, -1, -1]
    assert error_mm(match.position_mm, a[0]) < 40


@pytest.mark.parametrize("views", [2, 3, 8, 16])
def test_any_number_of_views(views):
    cameras = ring(views)
    me = walk_mm(1)
    points, score = split(observe(cameras, [me, walk_mm(1, 2400, 2.0)])[0])
    match = find_person(cameras, points, score)
    assert match is not None
    assert (match.person == 0).all()


def test_nobody_and_single_views_match_nothing():
    cameras = ring(4)
    nothing = np.full((4, 1, 17, 2), np.nan)
    assert find_person(cameras, nothing, np.zeros((4, 1, 17))) is None
    assert find_person(cameras, np.empty((4, 0, 17, 2)), np.empty((4, 0, 17))) is None
    points, score = split(observe(cameras, [walk_mm(1)])[0])
    points[1:] = np.nan
    assert find_person(cameras, points, score) is None


def test_follow_keeps_the_person_through_a_gap_and_shuffled_people():
    cameras = ring(4)
    me, other = walk_mm(60), walk_mm(60, 2200, 2.5)
    observed = observe(cameras, [me, other])
    random = np.random.default_rng(1)
    for frame in observed:
        for view in frame:
            view[:] = view[random.permutation(2)]
    observed[20:40] = np.nan
    observed[45, 0] = np.nan
    points, score = split(observed)
    followed, _ = follow_keypoints(cameras, points, np.nan_to_num(score), 30.0)
    assert np.isnan(followed[20:40]).all()
    assert np.isnan(followed[45, 0]).all()
    truth = cameras.project(torch.as_tensor(me.reshape(-1, 3)))[0].numpy().reshape(4, 60, 17, 2).swapaxes(0, 1)
    kept = np.r_[0:20, 40:60]
    distance = np.linalg.norm(followed[kept] - truth[kept], axis=-1)
    assert np.isfinite(distance).mean() > 0.98
    assert np.nanmax(distance) < 12


def test_hidden_person_is_a_gap_and_never_a_bystander():
    cameras = ring(4)
    observed = observe(cameras, [walk_mm(40), walk_mm(40, 1800, 2.0)])
    observed[20:25, :, 0] = np.nan
    points, score = split(observed)
    followed, _ = follow_keypoints(cameras, points, np.nan_to_num(score), 30.0)
    assert np.isnan(followed[20:25]).all()
    kept = np.r_[0:20, 25:40]
    np.testing.assert_array_equal(followed[kept], points[kept][:, :, 0])


def test_many_cameras_and_a_more_confident_bystander():
    cameras = ring(32)
    me, other = walk_mm(1), walk_mm(1, 1500, 2.0)
    points, score = split(observe(cameras, [me, other])[0])
    score[:, 0] = 0.7
    assert find_person(cameras, points, score, me[0]).person.tolist() == [0] * 32


@pytest.mark.parametrize("joints", [1, 2, 17])
def test_nan_scores_and_tiny_skeletons(joints):
    cameras = ring(4)
    points, score = split(observe(cameras, [walk_mm(1)])[0])
    if joints == 17:
        score[0, 0, 3] = np.nan
    match = find_person(cameras, points[:, :, :joints], score[:, :, :joints])
    assert match is not None
    assert match.person.tolist() == [0] * 4
