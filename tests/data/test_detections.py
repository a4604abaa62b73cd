from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detected import bodies
from scene import observe, ring, walk_mm
from tripose.data.detections.fit import Residuals, fit_noise, residuals
from tripose.data.detections.noise import CLEAN, OCCLUDED, TRAINING, Noise, body_of
from tripose.data.detections.people import JOINTS, make_people, stored_people
from tripose.data.detections.samples import seen_by, simulate, sizes
from tripose.errors import TriposeError
from tripose.skeleton import COCO17, H36M17, HALPE26, MPII16, Skeleton

PERFECT = Noise(
    sigma=(1e-6, 1e-6), occluded=(0, 0), outliers=(0, 0), swapped=(0, 0), missing=(0, 0), calibration=(0, 0),
    skewed=False, varied=False,
)  # fmt: skip


def miss(found):
    """Distance of every ray to the true joint, metres."""
    away = found.origin[:, :, None] - found.truth[:, None]
    across = away - found.direction * (found.direction * away).sum(-1, keepdim=True)
    return across.norm(dim=-1)


@pytest.mark.parametrize("skeleton", [COCO17, HALPE26, H36M17, MPII16], ids=lambda s: s.name)
def test_a_perfect_detector_sees_the_truth(skeleton: Skeleton):
    found = simulate(bodies(), 50, 3, skeleton, PERFECT, torch.Generator().manual_seed(0))
    assert found.direction.shape == (50, 3, len(skeleton), 3)
    assert (found.score > 0).all()
    assert miss(found).max() < 1e-3


def test_the_same_seed_is_the_same_detector():
    one, two, other = (
        simulate(bodies(), 8, 4, COCO17, TRAINING, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(one.direction, two.direction)
    assert torch.equal(one.score, two.score)
    assert not torch.equal(one.score, other.score)


def test_harder_settings_are_worse():
    usual = {}
    for name, noise in (("clean", CLEAN), ("occluded", OCCLUDED)):
        found = simulate(bodies(), 300, 3, COCO17, noise, torch.Generator().manual_seed(1))
        off = miss(found)[found.score > 0]
        usual[name] = (
            float(off.median()),
            float((off > 0.15).float().mean()),
            float((found.score == 0).float().mean()),
        )
    assert 0.005 < usual["clean"][0] < 0.02
    assert usual["clean"][0] < usual["occluded"][0]
    assert usual["clean"][1] < 0.03 < usual["occluded"][1]
    assert usual["clean"][2] < usual["occluded"][2]


def test_scores_tell_something():
    found = simulate(bodies(), 400, 2, COCO17, OCCLUDED, torch.Generator().manual_seed(2))
    off, seen = miss(found), found.score > 0
    sure = seen & (found.score > 0.8)
    assert off[sure].median() < off[seen & ~sure].median()


def test_errors_grow_with_the_person_and_not_with_the_image():
    truth = bodies(20)[:, 0][:, [JOINTS.index(j) for j in COCO17.joints]]
    rotation = torch.eye(3).expand(20, 2, 3, 3)
    for distance, size in ((4.0, 1.0), (8.0, 1.0), (8.0, 2.0)):
        people = truth * size + torch.tensor([0.0, 0.0, distance])
        noise = replace(PERFECT, sigma=(0.02, 0.02))
        found = seen_by(people, rotation, torch.zeros(20, 2, 3), COCO17, noise, torch.Generator().manual_seed(0))
        assert float(miss(found).median()) == pytest.approx(0.025 * size, rel=0.3)


def test_a_body_knows_its_sides():
    body = body_of(COCO17.joints)
    assert body.mirror == tuple(COCO17.mirror)
    assert COCO17.index("left_wrist") in body.arms
    assert COCO17.index("right_ankle") in body.legs
    assert body.groups.any(1).all()
    walk = torch.from_numpy(walk_mm(5) / 1000).float()
    assert 0.8 < float(sizes(walk, COCO17).mean()) < 1.2


def test_bodies_are_the_same_for_a_seed_and_kept(tmp_path):
    pytest.importorskip("anny")
    people = stored_people(tmp_path / "people.npz", 3, 4, "test")
    assert people.shape == (3, 2, len(JOINTS), 3)
    np.testing.assert_array_equal(people, make_people(3, 4, "test", workers=1))
    np.savez(tmp_path / "people.npz", people=people + 1, seed=4, poses="test")
    np.testing.assert_array_equal(stored_people(tmp_path / "people.npz", 3, 4, "test"), people + 1)  # not made again


def test_a_fit_finds_the_noise_that_was_put_in():
    cameras, truth = ring(5), walk_mm(80)
    seen = observe(cameras, [truth], noise_px=0.0)[:, :, 0]
    g = np.random.default_rng(0)
    depth_mm = 4000.0
    sigma, size_mm = 0.012, 1000 * float(sizes(torch.from_numpy(truth / 1000).float(), COCO17).mean())
    factor = body_of(COCO17.joints).factor.numpy()
    px = sigma * size_mm * 1145 / depth_mm
    points = seen[..., :2] + px * factor[:, None] * g.normal(size=seen[..., :2].shape)
    score = np.where(g.random(seen.shape[:3]) < 0.05, 0.0, 0.9)
    points[:, 2] += [14.0, 0.0]  # one camera looks beside
    points[3:9, 1, 4] += 300
    noise = fit_noise(residuals(cameras, points, score, COCO17), COCO17)
    assert noise.sigma[0] < 1.5 * sigma < 2.5 * noise.sigma[1]
    assert 0.5 * sigma < noise.sigma[0]
    assert noise.sigma[1] < 2.5 * sigma
    assert noise.missing[1] == pytest.approx(0.15, abs=0.05)
    assert 0 < noise.outliers[1] < 0.05
    assert 0.02 < noise.calibration[1] < 0.12
    assert noise.occluded == TRAINING.occluded


def test_too_little_to_fit_is_said():
    cameras, seen = ring(2), observe(ring(2), [walk_mm(5)])[:, :, 0]
    with pytest.raises(TriposeError, match="2 views: a view is judged by the others"):
        residuals(cameras, seen[..., :2], seen[..., 2], COCO17)
    nothing = Residuals(np.full((4, 3, 17, 2), np.nan), np.zeros((4, 3, 17), dtype=bool))
    with pytest.raises(TriposeError, match="one view has 0 joints"):
        fit_noise(nothing, COCO17)
