from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import tripose as tp
from scene import observe, ring, walk_mm, write_recording
from tripose.errors import TriposeError
from tripose.geometry.ray_fusion import RayBundle
from tripose.models.fusing import fuse
from tripose.models.fusion import Fusion, FusionTriangulation
from tripose.models.fusion_certainty import radius
from tripose.models.fusion_joints import KINDS, layout_of
from tripose.models.weights import load_fusion, load_model, save_model
from tripose.skeleton import BODY25, COCO17, H36M17, HALPE26, MPII16, PANOPTIC19, custom

SKELETONS = [COCO17, HALPE26, H36M17, MPII16, BODY25, PANOPTIC19]


@pytest.fixture(scope="module")
def shipped():
    return load_fusion("fusion-simulated")


def random_rays(skeleton, views=3, people=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = (people, views, len(skeleton))
    origin = 4 * torch.nn.functional.normalize(torch.randn(people, views, 3, generator=g), dim=-1)
    points = 0.4 * torch.randn(people, 1, len(skeleton), 3, generator=g)
    at = points + 0.03 * torch.randn(*shape, 3, generator=g)
    score = torch.rand(*shape, generator=g)
    direction = torch.nn.functional.normalize(at - origin[:, :, None], dim=-1)
    return RayBundle(origin.double(), direction.double(), torch.where(score < 0.2, 0.0, score).double())


@pytest.mark.parametrize("skeleton", SKELETONS, ids=lambda s: s.name)
def test_turning_scaling_and_moving_the_world_changes_nothing(shipped, skeleton):
    rays, layout = random_rays(skeleton), layout_of(skeleton.joints)
    turn = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    other = RayBundle(730 * rays.origin @ turn.mT + 5000, rays.direction @ turn.mT, rays.score)
    with torch.no_grad():
        here, there = (shipped(r, layout).second for r in (rays, other))
    np.testing.assert_allclose(there.position / 730, (here.position @ turn.mT) + 5000 / 730, atol=1e-5)
    np.testing.assert_allclose(there.covariance / 730**2, turn @ here.covariance @ turn.mT, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("skeleton", SKELETONS, ids=lambda s: s.name)
def test_a_mirrored_person_with_swapped_labels_is_mirrored(shipped, skeleton):
    rays, layout, mirror = random_rays(skeleton), layout_of(skeleton.joints), skeleton.mirror
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    other = RayBundle(rays.origin * flip, (rays.direction * flip)[:, :, mirror], rays.score[:, :, mirror])
    with torch.no_grad():
        here, there = (shipped(r, layout).second for r in (rays, other))
    np.testing.assert_allclose(there.position, (here.position * flip)[:, mirror], atol=1e-5)


def test_the_order_of_views_and_views_that_see_nobody_change_nothing(shipped):
    rays, layout = random_rays(COCO17, views=4), layout_of(COCO17.joints)
    order = [3, 1, 0, 2]
    nothing = torch.zeros_like(rays.score[:, :2])
    other = RayBundle(
        torch.cat([rays.origin[:, order], -rays.origin[:, :2]], 1),
        torch.cat([rays.direction[:, order], rays.direction[:, :2]], 1),
        torch.cat([rays.score[:, order], nothing], 1),
    )
    with torch.no_grad():
        here, there = (shipped(r, layout).second for r in (rays, other))
    np.testing.assert_allclose(there.position, here.position, atol=1e-5)
    np.testing.assert_allclose(there.weight[:, :4], here.weight[:, order], rtol=1e-4)


def walking(views=4, noise_px=3.0, frames=6):
    cameras, truth = ring(views), walk_mm(frames)
    seen = observe(cameras, [truth], noise_px)[:, :, 0]
    return cameras, truth, seen[..., :2], seen[..., 2]


@pytest.mark.parametrize("views", [3, 4, 5, 8, 12])
def test_good_views_are_not_harmed(views):
    cameras, truth, points, score = walking(views, frames=60)
    errors = {}
    for method in ("irls", "fusion"):
        found = tp.triangulate(cameras, points, score, method=method, skeleton=COCO17)
        errors[method] = np.linalg.norm(found.position_mm.numpy() - truth, axis=-1)
    assert np.median(errors["fusion"]) < np.median(errors["irls"]) + 0.3
    assert errors["fusion"].max() < 60


def test_what_is_returned_and_who_decided():
    cameras, _, points, score = walking(views=3)
    wrist = COCO17.index("left_wrist")
    score[:, 1:, wrist] = 0
    ankle = COCO17.index("right_ankle")
    score[:, :, ankle] = 0
    found = tp.triangulate(cameras, points, score, method="fusion", skeleton=COCO17)
    assert found.position_mm.isfinite().all()
    share = found.prior_share
    assert share is not None
    assert ((share >= 0) & (share <= 1)).all()
    assert (share[:, ankle] > 0.99).all()
    assert (share[:, wrist] > 0.9).all()
    seen = [i for i in range(17) if i not in (wrist, ankle)]
    assert share[:, seen].max() < 0.7
    spread = found.covariance_mm2.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    assert (spread[:, ankle] > 2 * spread[:, seen].amax(-1)).all()
    assert (found.n_views[:, ankle] == 0).all()
    views = found.view_share
    np.testing.assert_allclose(views[..., seen].sum(-2), 1, atol=1e-9)
    assert (views[:, 0, wrist] == 1).all()
    assert (views[..., ankle] == 0).all()
    assert (found.n_views[:, wrist] <= 1).all()


def test_predict_says_what_is_expected_rather_than_seen(tmp_path):
    cameras, truth = ring(3), walk_mm(8)
    seen = observe(cameras, [truth])
    seen[:, 1:, :, COCO17.index("left_wrist")] = np.nan
    folder = write_recording(tmp_path / "walk", cameras, seen)
    command = [
        sys.executable,
        "-m",
        "tripose.cli",
        "predict",
        folder,
        "--skeleton",
        "coco17",
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "8 frames, 100.0 % of limb joints found, 8.3 % expected rather than seen (fusion (fusion-simulated))" in said
    poses = tp.Pose3D.load(tmp_path / "out" / "walk.nc")
    assert (poses.prior_share[:, 0, COCO17.index("left_wrist")] > 0.5).all()
    refused = subprocess.run(
        [*command, "--method", "fusion", "--min-views", "3"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "min_views is 3, which only dlt, ransac and irls know" in " ".join(refused.stderr.split())


def test_several_people_at_once_are_the_same_as_each_alone(shipped):
    cameras, _, points, score = walking()
    alone = fuse(shipped, cameras, points, score, COCO17.joints)
    together = fuse(shipped, cameras, np.stack([points, points[::-1]], 1), np.stack([score] * 2, 1), COCO17.joints)
    np.testing.assert_allclose(together.position_mm[:, 0], alone.position_mm, atol=0.01)
    np.testing.assert_allclose(together.position_mm[:, 1], alone.position_mm.flip(0), atol=0.01)
    again = fuse(shipped, cameras, points, score, COCO17.joints)
    assert torch.equal(again.position_mm, alone.position_mm)


@pytest.mark.parametrize("trouble", ["one view", "no score", "NaN", "infinite", "empty"])
def test_whom_two_views_do_not_see_is_not_guessed(trouble):
    cameras, _, points, score = walking()
    match trouble:
        case "one view":
            score[0, 1:] = 0
        case "no score":
            score[0] = 0
        case "NaN":
            points[0] = np.nan
        case "infinite":
            points[0] = np.inf
        case "empty":
            points, score = points[:0], score[:0]
    found = tp.triangulate(cameras, points, score, method="fusion", skeleton=COCO17)
    assert found.position_mm[:1].isnan().all()
    assert found.covariance_mm2[:1].isnan().all()
    assert found.position_mm[1:].isfinite().all()


def test_thirty_one_views_and_a_stranger_in_one_of_them():
    cameras, truth, points, score = walking(views=31)
    points[:, 4] = points[::-1, 9]
    found = tp.triangulate(cameras, points, score, method="fusion", skeleton=COCO17)
    assert np.linalg.norm(found.position_mm.numpy() - truth, axis=-1).max() < 20


def test_joints_that_the_network_does_not_know_are_triangulated_without_it():
    cameras, truth, points, score = walking()
    joints = [*COCO17.joints[:15], "left_thumb", "right_thumb"]
    found = tp.triangulate(cameras, points, score, method="fusion", skeleton=custom("thumbs", joints))
    plain = tp.triangulate(cameras, points, score, method="ransac")
    np.testing.assert_allclose(found.position_mm[:, 15:], plain.position_mm[:, 15:], atol=1e-9)
    assert (found.prior_share[:, 15:] == 0).all()
    assert np.linalg.norm(found.position_mm.numpy() - truth, axis=-1).max() < 60


def test_what_it_cannot_do_is_said():
    cameras, _, points, score = walking()
    with pytest.raises(TriposeError, match="has to know what the joints are"):
        tp.triangulate(cameras, points, score, method="fusion")
    dog = custom("dog", ["nose", *(f"paw_{i}" for i in range(16))])
    with pytest.raises(TriposeError, match="needs shoulders and hips; these joints are nose"):
        tp.triangulate(cameras, points, score, method="fusion", skeleton=dog)
    with pytest.raises(TriposeError, match="works on keypoints and not on images"):
        load_model("fusion-simulated")
    with pytest.raises(TriposeError, match="which looks at images and not keypoints"):
        load_fusion("volumetric-synthetic")


def test_a_model_is_kept_and_read_again(tmp_path):
    model = FusionTriangulation(Fusion(channels=16, view_channels=8))
    model.set_body(torch.randn(len(KINDS), 3), model.bone_length + 1)
    save_model(model, tmp_path / "m")
    again = load_fusion(tmp_path / "m")
    assert again.config == model.config
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())


def test_points_without_a_batch_axis():
    cameras, _, points, score = walking()
    alone = tp.triangulate(cameras, points[0], score[0], method="fusion", skeleton=COCO17)
    batch = tp.triangulate(cameras, points, score, method="fusion", skeleton=COCO17)
    assert alone.position_mm.shape == (17, 3)
    np.testing.assert_allclose(alone.position_mm, batch.position_mm[0], atol=0.01)
    np.testing.assert_allclose(alone.view_share, batch.view_share[0], atol=1e-3)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (("nose",), 0),
        (("nose", "left_eye", "right_eye", "left_ear", "right_ear"), 0),
        (("left_shoulder", "right_shoulder", "nose", "left_elbow"), 0),
        (("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"), 0),
        (("left_shoulder", "right_hip", "left_knee", "left_elbow"), 13),
    ],
)
def test_of_a_part_of_a_person_nothing_is_made_up(seen, told):
    cameras, truth, points, score = walking(noise_px=1.0)
    there = COCO17.indices(seen)
    score[..., [i for i in range(17) if i not in there]] = 0
    found = tp.triangulate(cameras, points, score, method="fusion", skeleton=COCO17)
    assert np.linalg.norm(found.position_mm.numpy() - truth, axis=-1)[:, there].max() < 30
    assert found.position_mm.isfinite().all(-1).sum(-1).tolist() == [len(seen) + told] * len(truth)


def test_rays_that_tell_nothing_give_nothing():
    cameras, _, points, score = walking(views=2)
    double = tp.Cameras.join([cameras.select(["cam1"]), cameras.select(["cam1"]).rename(["again"])])
    seen = points[:, [0, 0]]
    assert tp.triangulate(double, seen, score, method="fusion", skeleton=COCO17).position_mm.isnan().all()
    one_pixel = np.repeat(points[:, :, :1], 17, 2)
    found = tp.triangulate(cameras, one_pixel, score, method="fusion", skeleton=COCO17)
    assert (found.prior_share.nan_to_num(0) == 0).all()


def test_tiny_scores_are_scores():
    cameras, truth, points, score = walking()
    for tiny in (1e-9, 1e-30):
        found = tp.triangulate(cameras, points, np.full_like(score, tiny), method="fusion", skeleton=COCO17)
        assert np.linalg.norm(found.position_mm.numpy() - truth, axis=-1).mean() < 25


def test_regions_hold_what_they_say_of_what_triangulate_returns(shipped):
    cameras, truth, points, score = walking(noise_px=6.0, frames=60)
    found = tp.triangulate(cameras, points, score, method="fusion", skeleton=COCO17)
    error = found.position_mm - torch.from_numpy(truth)
    squared = torch.einsum("tji,tjik,tjk->tj", error, found.covariance_mm2.inverse(), error)
    freedom = float(shipped.freedom[4])
    for level, low, high in ((0.5, 0.3, 0.7), (0.9, 0.8, 0.99)):
        assert low < float((squared <= radius(level, freedom) * (freedom - 2) / freedom).double().mean()) < high


def test_shapes_that_do_not_fit_are_said():
    cameras, _, points, score = walking()
    with pytest.raises(TriposeError, match="the points have 17 joints, and the skeleton has 26"):
        tp.triangulate(cameras, points, score, method="fusion", skeleton=HALPE26)
    joints = [*COCO17.joints[:16], "hip"]
    assert tp.triangulate(cameras, points, score, method="fusion", skeleton=custom("odd", joints)).n_views.all()


def test_an_animal_is_triangulated_and_not_taken_for_a_result_of_fusion(tmp_path):
    cameras, truth = ring(3), walk_mm(8)
    folder = write_recording(tmp_path / "walk", cameras, observe(cameras, [truth]))
    recording = tp.Recording.open(folder, skeleton="coco17")
    asked = tp.predict(recording, out=tmp_path / "out")
    assert asked.notes["method"] == "fusion (fusion-simulated)"
    assert tp.predict(recording, out=tmp_path / "out", min_views=3).notes["method"] == "ransac"
    assert tp.predict(recording, out=tmp_path / "out", method="fusion").view_share is not None
