"""The compiled unprojection against the one in torch, which defines what is right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scene import ring
from tripose.geometry.volume import place_cuboid, unproject

pytest.importorskip("numba")
from tripose.geometry import unproject_fused as kernel

AGGREGATIONS = ["sum", "max", "softmax", "conf", "conf_norm"]
IMAGE_SIZE_PX = (1000, 1000)
# views, channels, rows, columns, batch: non-square maps, channels that fill no register, more views than channels.
CASES = {"one view": (1, 5, 32, 48, 1), "two samples": (4, 32, 40, 24, 2), "many views": (31, 17, 16, 16, 1)}


def given(views=4, channels=8, rows=24, columns=32, batch=1, side_mm=9500.0, voxels=18, **more):
    """Arguments of `unproject`: cameras 4 m from the middle of a cuboid so large that some of it is behind them."""
    random = torch.Generator().manual_seed(views)
    return {
        "features": torch.randn(batch, views, channels, rows, columns, generator=random),
        "P": ring(views).P.double().expand(batch, views, 3, 4),
        "image_size_px": IMAGE_SIZE_PX,
        "cuboid": place_cuboid(torch.tensor([[0.0, 100, 1000]] * batch), side_mm, voxels, up="z", world_up="z"),
        "confidence": torch.rand(batch, views, channels, generator=random),
        **more,
    }


def both(**arguments):
    return unproject(**arguments, fused=True), unproject(**arguments, fused=False)


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.abs().max().item())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("case", CASES)
def test_as_in_torch(case, aggregation, legacy):
    arguments = given(*CASES[case])
    ours, theirs = both(**arguments, aggregation=aggregation, legacy_alignment=legacy)
    assert_same(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last_3d)
    missed = (theirs == 0).all(1).double().mean().item()
    assert (0.001 if case == "many views" else 0.1) < missed < 0.99  # not all voxels are seen, and not none


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_masked_view_is_as_good_as_removed(aggregation, legacy):
    arguments = given(batch=2)
    how = {"aggregation": aggregation, "legacy_alignment": legacy, "fused": True}
    fewer = {name: arguments[name][:, [0, 2]] for name in ("features", "P", "confidence")}
    removed = unproject(**{**arguments, **fewer}, **how)
    spoilt = arguments["features"].clone(), arguments["P"].clone()
    for tensor in spoilt:
        tensor[:, [1, 3]] = torch.nan
    view_valid = torch.tensor([[True, False, True, False]] * 2)
    masked = unproject(**{**arguments, "features": spoilt[0], "P": spoilt[1]}, **how, view_valid=view_valid)
    assert torch.equal(masked, removed)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_samples_have_masks_of_their_own(aggregation, legacy):
    view_valid = torch.tensor([[False, True, True, False], [False] * 4, [True] * 4])
    ours, theirs = both(**given(batch=3), aggregation=aggregation, legacy_alignment=legacy, view_valid=view_valid)
    assert_same(ours, theirs)
    assert not ours[1].any()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (64, 3)])
def test_maps_of_few_cells_beside_a_spoilt_one(size, legacy):
    arguments = given(rows=size[0], columns=size[1])
    how = {"aggregation": "sum", "legacy_alignment": legacy, "view_valid": torch.tensor([[True, False, True, True]])}
    arguments["features"][:, 1] = 0
    theirs = unproject(**arguments, **how, fused=False)
    arguments["features"][:, 1] = torch.nan
    assert_same(unproject(**arguments, **how, fused=True), theirs)


@pytest.mark.parametrize("channels", [1, 7, 8, 31, 33, 64])
def test_any_number_of_channels(channels):
    assert_same(*both(**given(channels=channels), aggregation="softmax"))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("factor", [1e-20, 30.0, 1e4, 1e20])
def test_softmax_of_values_far_apart(factor, legacy):
    arguments = given()
    arguments["features"] *= factor
    ours, theirs = both(**arguments, aggregation="softmax", legacy_alignment=legacy)
    assert_same(ours, theirs)


@pytest.mark.parametrize("aggregation", ["max", "softmax"])
def test_the_same_in_any_order_of_the_views(aggregation):
    arguments = given(31)
    backwards = {name: arguments[name].flip(1) for name in ("features", "P", "confidence")}
    ours = unproject(**arguments, aggregation=aggregation, fused=True)
    assert_same(unproject(**{**arguments, **backwards}, aggregation=aggregation, fused=True), ours)


def test_a_turned_cuboid_between_the_cameras():
    arguments = given(rows=96, columns=96, side_mm=2500.0, voxels=16)
    cuboid = arguments["cuboid"]
    turned = place_cuboid(cuboid.center_mm, 2500.0, 16, up="y", world_up="z", yaw_rad=torch.tensor([0.7]))
    ours, theirs = both(**{**arguments, "cuboid": turned}, aggregation="conf_norm")
    assert_same(ours, theirs)
    straight = unproject(**arguments, aggregation="conf_norm", fused=True)
    assert (ours - straight).abs().max() > 0.1 * theirs.abs().max()


def test_a_nearer_voxel_than_a_millimetre_is_behind():
    P = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]], dtype=torch.float64)[None]
    cuboid = place_cuboid(torch.zeros(1, 3), 2.0, 5, up=None, world_up=None)  # depths -1, -0.5, 0, 0.5, 1 mm
    arguments = {"features": torch.ones(1, 1, 3, 8, 8), "P": P, "image_size_px": (8, 8), "aggregation": "sum"}
    assert not unproject(**arguments, cuboid=cuboid, fused=True).any()
    ahead = replace(cuboid, center_mm=cuboid.center_mm + torch.tensor([1.0, 1.0, 0.5]))
    assert (unproject(**arguments, cuboid=ahead, fused=True)[..., 4] > 0).all()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_a_camera_that_is_no_number_reads_no_memory_beside_the_maps(bad, legacy):
    arguments = given()
    arguments["P"] = arguments["P"].clone()
    arguments["P"][:, 1, 0] = bad
    ours = unproject(**arguments, aggregation="softmax", legacy_alignment=legacy, fused=True)
    assert ours.isfinite().all()
    assert ours.abs().max() <= arguments["features"].abs().max()


def test_threads_do_not_change_a_bit():
    arguments = given(batch=2, voxels=17)
    before = torch.get_num_threads()
    try:
        volumes = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            volumes.append(unproject(**arguments, aggregation="softmax", fused=True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(volume, volumes[0]) for volume in volumes)


def test_channels_last_features_are_left_as_they_are():
    arguments = given()
    features = arguments["features"][0].to(memory_format=torch.channels_last)[None]
    kept = features.clone()
    ours, theirs = both(**{**arguments, "features": features}, aggregation="conf")
    assert_same(ours, theirs)
    assert torch.equal(features, kept)


def test_gradients_are_refused():
    arguments = given()
    arguments["features"].requires_grad_()
    with pytest.raises(RuntimeError, match="grad"):
        unproject(**arguments, aggregation="sum", fused=True)
    with torch.no_grad():
        unproject(**arguments, aggregation="sum", fused=True)


def test_confidences_are_asked_for():
    with pytest.raises(ValueError, match="confidences"):
        unproject(**given(confidence=None), aggregation="conf", fused=True)


def test_the_exponential():
    x = torch.cat([torch.linspace(0, 87, 20_001)[:-1], torch.tensor([0.0, 87.0, 1e4, 3e38, torch.inf])])
    ours = torch.tensor([kernel._exp_minus(number) for number in x.numpy()], dtype=torch.float64)
    true = torch.exp(-x.double())
    assert ((ours / true)[:-4] - 1).abs().max() < 3e-7
    assert ours[-5] == 1
    assert not ours[-4:].any()
