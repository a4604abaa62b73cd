"""The stages of the shipped models on heatmaps whose keypoints are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from people import body_mm, crop_cameras, peaked_heatmaps, random_images, small_model, views
from reference.evidence import pulled_point
from reference.volumes import coordinate_volume, samples_of_voxel
from tripose.errors import TriposeError
from tripose.geometry.volume import place_cuboid
from tripose.models.config import Evidence
from tripose.models.evidence import gather_evidence, person_center_mm
from tripose.models.evidence_net import EvidenceNet
from tripose.models.inference import for_inference, has_bfloat16
from tripose.models.losses import mae, robust_distance, volumetric_cross_entropy
from tripose.models.refine import _pulled_dlt
from tripose.models.weights import build_model

SIZE_PX = (128, 128)


@pytest.fixture(scope="module")
def model():
    return small_model("evidence", voxels=32)


def encoded(cameras, points_mm, **more):
    heatmaps = peaked_heatmaps(cameras, points_mm, **more).float()
    return heatmaps, torch.ones(heatmaps.shape[:3])


def excite(model, seed=0):
    """A model whose heads and 3D network say something."""
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith(("last.weight", "second_norm.weight")):
            torch.nn.init.normal_(p, std=0.5)
        if name == "volume_net.output_layer.weight":
            torch.nn.init.normal_(p, std=0.3)
    return model


def decode(model, given, cameras, valid=None, center_mm=None, **more):
    with torch.no_grad():
        return model.decode(given, cameras, valid, SIZE_PX, center_mm, **more)


def off(found, truth):
    return (found - truth).norm(dim=-1)


# --- Without training ------------------------------------------------------------------------------------------------


def test_without_training_it_decodes_the_evidence_and_refines_away_the_voxels(model):
    cameras, body = crop_cameras(4, 2), body_mm(2)
    output = decode(model, encoded(cameras, body), cameras)
    stages = output["stages"]
    assert off(stages.algebraic_mm, body).max() < 1.0
    coarse, fine = off(stages.volumetric_mm, body), off(output["keypoints_mm"], body)
    assert coarse.max() < 2400 / 31  # one voxel
    assert fine.mean() < 0.5 * coarse.mean()
    assert output["volumes"].shape == (2, 17, 32, 32, 32)
    assert (output["keypoints_px"] - cameras.project(body)[0]).norm(dim=-1).max() < 2.0
    torch.testing.assert_close(output["confidence"].sum(1), torch.ones(2, 17).double())


def test_with_many_views_volumes_are_as_sharp_as_with_four(model):
    body = body_mm()
    widest = [
        decode(model, encoded(crop_cameras(n), body), crop_cameras(n))["volumes"].flatten(2).softmax(-1).amax(-1).mean()
        for n in (4, 12)
    ]
    assert widest[1] < 1.3 * widest[0]


@pytest.mark.parametrize("broken", [0, 1, 5])
def test_one_gross_error_does_not_move_the_cuboid(broken):
    body = body_mm()
    body[0, [11, 12, 0, 5, 6, 7][broken]] += 3000.0
    config = Evidence(skeleton="coco17")
    hips = body_mm()[:, [11, 12]].mean(1)
    assert off(person_center_mm(body, config), hips).max() < 250
    body[0, 3:] = torch.nan
    assert person_center_mm(body, config).isfinite().all()
    assert person_center_mm(body * torch.nan, config).isnan().all()


def test_evidence_is_the_logarithm_of_likelihoods_added_up():
    cameras, body = crop_cameras(5), body_mm()
    p = peaked_heatmaps(cameras, body)[:, :, :2].flatten(3).softmax(-1).view(1, 5, 2, 32, 32)
    cuboid = place_cuboid(body[:, 0], 1500.0, 8, up="z", world_up="z")
    valid = torch.tensor([[True, True, False, True, True]])
    for seen, factor in ((valid, 1.0), (torch.ones_like(valid), 0.8)):  # five views add up to four
        total, mean, largest = gather_evidence(p, cameras.P, SIZE_PX, cuboid, seen)
        places = coordinate_volume(body[0, 0], 1500.0, 8)
        for voxel in ((0, 0, 0), (3, 4, 4), (7, 2, 5)):
            every = samples_of_voxel(torch.log1p(1024 * p[0]), cameras.P[0], SIZE_PX, places[voxel])
            values = [v for view, v in every.items() if seen[0, view]]
            expected = sum(values) if values else torch.zeros(2)
            torch.testing.assert_close(total[0, :, *voxel], factor * expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(mean[0, :, *voxel], expected / int(seen.sum()), rtol=1e-5, atol=1e-6)
            if values:
                torch.testing.assert_close(largest[0, :, *voxel], torch.stack(values).amax(0), rtol=1e-5, atol=1e-6)


def test_the_pull_equals_its_twin():
    random = torch.Generator().manual_seed(0)
    cameras, body = crop_cameras(3), body_mm()
    points = cameras.project(body)[0] + torch.randn(1, 3, 17, 2, generator=random)
    weight = torch.rand(1, 3, 17, dtype=torch.float64, generator=random)
    weight[0, :, 4], weight[0, 1:, 5] = 0.0, 0.0
    start = body + 50 * torch.randn(1, 17, 3, generator=random)
    pull = torch.rand(1, 17, dtype=torch.float64, generator=random)
    found = _pulled_dlt(cameras.P, points, weight, SIZE_PX, start, pull)[0]
    P = [np.column_stack([p[:, :3], p[:, 3] / 1000]) for p in cameras.P[0].numpy()]
    for joint in range(17):
        at = points[0, :, joint].numpy(), weight[0, :, joint].tolist(), start[0, joint].numpy() / 1000
        expected = pulled_point(P, *at, float(pull[0, joint]))
        np.testing.assert_allclose(found[joint], 1000 * expected, atol=1e-6)
    assert torch.equal(found[4], start[0, 4])


# --- One view --------------------------------------------------------------------------------------------------------


def test_one_view_needs_a_center_and_pulls_the_joint_onto_its_ray(model):
    cameras, body = crop_cameras(1), body_mm()
    given = encoded(cameras, body)
    with pytest.raises(ValueError, match="a single view does not tell where the person is: give center_mm"):
        decode(model, given, cameras)
    output = decode(model, given, cameras, None, body[:, [11, 12]].mean(1))
    assert output["stages"].algebraic_mm.isnan().all()
    start, end = output["stages"].volumetric_mm, output["keypoints_mm"]
    assert end.isfinite().all()
    truth_px = cameras.project(body)[0]
    before, after = ((cameras.project(x)[0] - truth_px).norm(dim=-1) for x in (start, end))
    assert after.mean() < 0.7 * before.mean()
    # Nothing moves it along the ray.
    ray = body - cameras.centers_mm[:, 0]
    along = ((end - start) * ray).sum(-1) / ray.norm(dim=-1)
    assert along.abs().max() < 0.2 * off(end, start).max()
    mixed = torch.tensor([[True, True], [True, False]])
    two = crop_cameras(2, 2)
    with pytest.raises(ValueError, match="single view"):
        decode(model, encoded(two, body_mm(2)), two, mixed)


def test_center_mm_of_another_shape_is_refused(model):
    cameras = crop_cameras(2)
    with pytest.raises(ValueError, match=r"center_mm is \[2, 3\]; 1 samples need \[1, 3\]"):
        decode(model, encoded(cameras, body_mm()), cameras, None, torch.zeros(2, 3))


# --- Whatever it says ------------------------------------------------------------------------------------------------


def test_the_order_of_views_does_not_matter():
    model = excite(small_model("evidence")).double()
    cameras, body = crop_cameras(4), body_mm()
    given = [x.double() for x in encoded(cameras, body, sigma=2.0)]
    given[0] = given[0] + torch.randn(given[0].shape, generator=torch.Generator().manual_seed(0)).double()
    straight = decode(model, given, cameras)
    order = [2, 0, 3, 1]
    turned = decode(model, [x[:, order] for x in given], views(cameras, order))
    assert (straight["keypoints_mm"] - turned["keypoints_mm"]).abs().max() < 1e-7
    assert (straight["confidence"][:, order] - turned["confidence"]).abs().max() < 1e-9
    assert off(straight["keypoints_mm"], straight["stages"].volumetric_mm).max() > 1.0


def test_a_masked_view_is_a_removed_view_for_an_excited_model():
    model = excite(small_model("evidence")).double()
    cameras, body = crop_cameras(4), body_mm()
    given = [x.double() for x in encoded(cameras, body, sigma=2.0)]
    for x in given:
        x[:, 1] = torch.nan
    keep = [0, 2, 3]
    masked = decode(model, given, cameras, torch.tensor([[True, False, True, True]]))
    removed = decode(model, [x[:, keep] for x in given], views(cameras, keep))
    assert (masked["keypoints_mm"] - removed["keypoints_mm"]).abs().max() < 1e-9
    assert (masked["confidence"][:, 1] == 0).all()


def test_cached_heatmaps_in_half_precision_are_the_same_model(model):
    cameras, body = crop_cameras(3), body_mm()
    given = encoded(cameras, body)
    full, half = (decode(model, g, cameras) for g in (given, [x.half() for x in given]))
    assert off(full["keypoints_mm"], half["keypoints_mm"]).max() < 2.0
    with torch.no_grad():
        images = random_images(3)
        again = decode(model, model.encode_views(images), cameras)
        assert torch.equal(model(images, cameras)["keypoints_mm"], again["keypoints_mm"])


@pytest.mark.parametrize("up", ["z", "-y", "x"])
def test_the_world_may_stand_in_any_direction(up):
    """The same rig and person with another axis up: the same result, turned."""
    model = excite(small_model("evidence"))
    cameras, body = crop_cameras(3), body_mm()
    given = encoded(cameras, body)
    turn = place_cuboid(torch.zeros(1, 3), 1.0, 2, up="z", world_up=up).turn[0]  # from z up to the new world
    turned = replace(cameras, R=cameras.R @ turn.T, up=up)
    here, there = decode(model, given, cameras), decode(model, given, turned)
    assert (here["keypoints_mm"] @ turn.T - there["keypoints_mm"]).abs().max() < 0.05


# --- Training --------------------------------------------------------------------------------------------------------


def test_each_stage_learns_from_its_own_result():
    model = build_model(Evidence(skeleton="coco17", backbone="movenet", image_size_px=SIZE_PX, voxels=16)).train()
    cameras, body = crop_cameras(3), body_mm()
    valid = torch.ones(1, 17, dtype=torch.bool)
    reached = {}
    for stage in ("algebraic", "volumetric", "refined", "corrected", "volumes"):
        output = model.decode(encoded(cameras, body), cameras, None, SIZE_PX, body[:, 11] + 30.0)
        loss = {
            "algebraic": lambda o: robust_distance(o["stages"].algebraic_mm, body, valid),
            "volumetric": lambda o: mae(o["stages"].volumetric_mm, body, valid),
            "refined": lambda o: robust_distance(o["stages"].refined_mm, body, valid),
            "corrected": lambda o: robust_distance(o["keypoints_mm"], body, valid),
            "volumes": lambda o: volumetric_cross_entropy(o["volumes"], o["cuboid"], body, valid),
        }[stage](output)
        model.zero_grad()
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert all(g.isfinite().all() for g in gradients.values())
        reached[stage] = {n.split(".")[0] for n, g in gradients.items() if (g != 0).any()}
    assert reached == {
        "algebraic": {"algebraic"},
        "volumetric": {"volume_net"},
        "refined": {"refiner"},
        "corrected": {"pose_corrector"},
        "volumes": {"volume_net"},
    }


def test_training_turns_the_cuboid_at_random(model):
    cameras, body = crop_cameras(2), body_mm()
    given = encoded(cameras, body)
    model.train()
    try:
        turns = [decode(model, given, cameras)["cuboid"].turn for _ in range(2)]
    finally:
        model.eval()
    assert (turns[0] - turns[1]).abs().max() > 1e-3
    yaw = torch.tensor([0.3])
    assert decode(model, given, cameras, yaw_rad=yaw)["cuboid"].turn[0, 1, 0] == pytest.approx(float(yaw.sin()))


def test_autocast_reaches_the_3d_network_only(model):
    cameras, body = crop_cameras(3), body_mm()
    given = encoded(cameras, body)
    plain = decode(model, given, cameras)
    with torch.autocast("cpu", torch.bfloat16):
        cast = decode(model, given, cameras)
    assert torch.equal(plain["stages"].algebraic_mm, cast["stages"].algebraic_mm)
    assert 0 < off(plain["stages"].volumetric_mm, cast["stages"].volumetric_mm).max() < 3.0


def test_the_3d_network_starts_as_the_sum_of_the_evidence():
    net = EvidenceNet(3)
    total, mean, largest = (torch.rand(2, 3, 16, 16, 16) for _ in range(3))
    assert (net(total, mean, largest) - total).abs().max() < 0.1
    assert 1.0e6 < sum(p.numel() for p in EvidenceNet(26).parameters()) < 1.5e6


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="no bfloat16 arithmetic")
def test_bfloat16_copy_is_close(model):
    cameras, body = crop_cameras(3), body_mm()
    fast = for_inference(model)
    assert fast.volume_net.stem[0].weight.dtype == torch.bfloat16
    assert fast.refiner.views.first.weight.dtype == torch.float32
    given = encoded(cameras, body)
    assert off(decode(model, given, cameras)["keypoints_mm"], decode(fast, given, cameras)["keypoints_mm"]).max() < 1.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"voxels": 20}, "voxels is 20"),
        ({"legacy_alignment": True}, "legacy_alignment"),
        ({"window_px": 0.0}, "window"),
    ],
)
def test_a_model_that_cannot_be_is_refused(change, said):
    with pytest.raises(TriposeError, match=said):
        small_model("evidence", **change)
