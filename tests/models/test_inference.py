"""The fast copy of a model computes what the model computes."""

from __future__ import annotations

import copy

import pytest
import torch

from people import body_mm, config, crop_cameras, peaked_heatmaps, random_images, small_model
from tripose.models.inference import for_inference, has_bfloat16
from tripose.models.weights import build_model

CENTER_MM = torch.tensor([[0.0, 0.0, 1000.0]])


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("algebraic", {}),
        ("volumetric", {"aggregation": "conf_norm"}),
        pytest.param("volumetric", {"net": "light"}, marks=pytest.mark.slow),
    ],
)
def test_float32_copy_has_no_batch_norms_and_the_same_numbers(method, more):
    model = small_model(method, **more)
    before = copy.deepcopy(model.state_dict())
    fast = for_inference(model, torch.float32)
    assert not [m for m in fast.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d)]
    with torch.no_grad():
        images, cameras = random_images(3), crop_cameras(3)
        slow_output = model(images, cameras, None, CENTER_MM)
        fast_output = fast(images, cameras, None, CENTER_MM)
    what = "heatmaps" if method == "algebraic" else "volumes"
    scale = slow_output[what].abs().max()
    assert (slow_output[what] - fast_output[what]).abs().max() < 1e-4 * scale
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


@pytest.mark.parametrize("net", ["v2v", "light"])
def test_bfloat16_copy_of_a_volumetric_model_runs(net):
    fast = for_inference(small_model("volumetric", net=net), torch.bfloat16)
    with torch.no_grad():
        output = fast(random_images(2), crop_cameras(2), None, CENTER_MM)
    assert output["volumes"].dtype == torch.float32
    assert output["keypoints_mm"].isfinite().all()


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="no bfloat16 arithmetic")
def test_bfloat16_copy_keeps_logits_and_geometry_precise():
    model = small_model("algebraic")
    fast = for_inference(model)
    assert fast.backbone.conv1.weight.dtype == torch.bfloat16
    with torch.no_grad():
        images, cameras = random_images(3), crop_cameras(3)
        slow_output, fast_output = model(images, cameras), fast(images, cameras)
    assert fast_output["heatmaps"].dtype == torch.float32
    assert fast_output["keypoints_mm"].dtype == torch.float64
    error = (slow_output["heatmaps"] - fast_output["heatmaps"]).norm() / slow_output["heatmaps"].norm()
    assert error < 0.03


def test_autocast_does_not_reach_the_geometry():
    model, cameras, body = small_model("algebraic"), crop_cameras(4), body_mm()
    heatmaps, confidence = peaked_heatmaps(cameras, body), torch.ones(1, 4, 17)
    plain = model.locate(heatmaps, confidence, cameras.P, (128, 128)).keypoints_mm
    with torch.autocast("cpu", torch.bfloat16):
        same = model.locate(heatmaps, confidence, cameras.P, (128, 128)).keypoints_mm
    assert (plain == same).all()
    # A Gaussian cut off at the cells' raster has its mean at the keypoint.
    assert (plain - body).norm(dim=-1).max() < 1.0


def test_training_turns_the_cuboid_and_evaluation_does_not():
    torch.manual_seed(0)
    model = build_model(config("volumetric")).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.eval()
    images, cameras = random_images(2), crop_cameras(2)
    with torch.no_grad():
        turned = model(images, cameras, None, CENTER_MM)["cuboid"].turn
        again = model(images, cameras, None, CENTER_MM)["cuboid"].turn
        still = model.eval()(images, cameras, None, CENTER_MM)["cuboid"].turn
    assert (turned - again).abs().max() > 1e-3
    assert (still[0] == torch.eye(3, dtype=torch.float64)).all()
    assert turned[0, 2, 2] == 1.0  # about the vertical


@pytest.mark.slow
def test_the_algebraic_geometry_compiles_as_one_graph():
    model, cameras, body = small_model("algebraic"), crop_cameras(4), body_mm()
    heatmaps, confidence = peaked_heatmaps(cameras, body).float(), torch.rand(1, 4, 17)
    compiled = torch.compile(model.locate, fullgraph=True)
    plain = model.locate(heatmaps, confidence, cameras.P, (128, 128))
    same = compiled(heatmaps, confidence, cameras.P, (128, 128))
    assert (plain.keypoints_mm - same.keypoints_mm).abs().max() < 1e-3
