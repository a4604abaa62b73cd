"""MoveNet as the 2D network of a model, and how it starts from the released weights."""

from __future__ import annotations

import pytest
import torch

from people import crop_cameras, random_images, small_model
from tripose.detect.movenet import load_thunder
from tripose.models.config import Algebraic
from tripose.models.inference import for_inference, has_bfloat16
from tripose.models.movenet_weights import start_from_thunder
from tripose.models.pose_movenet import PoseMoveNet
from tripose.models.views import normalise
from tripose.skeleton import COCO17, SKELETONS, partner


@pytest.fixture(scope="module")
def thunder():
    return load_thunder()


def started(skeleton):
    network = PoseMoveNet(len(skeleton))
    start_from_thunder(network, skeleton)
    return network


@pytest.mark.parametrize("name", SKELETONS)
def test_a_network_for_any_skeleton_starts_as_thunder(name, thunder):
    skeleton, images = SKELETONS[name], random_images(2)[0]
    with torch.no_grad():
        found = started(skeleton)(images).heatmaps
        released = thunder(images)["keypoint_heatmap"]
    assert found.shape == (2, len(skeleton), 32, 32)
    for joint in COCO17.joints:
        if joint in skeleton.joints:
            torch.testing.assert_close(found[:, skeleton.index(joint)], released[:, COCO17.index(joint)])
    if "pelvis" in skeleton.joints:
        hips = released[:, [COCO17.index("left_hip"), COCO17.index("right_hip")]].mean(1)
        torch.testing.assert_close(found[:, skeleton.index("pelvis")], hips, rtol=1e-4, atol=1e-4)
    if "left_heel" in skeleton.joints:
        left, right = (released[:, COCO17.index(f"{side}_ankle")] for side in ("left", "right"))
        torch.testing.assert_close(found[:, skeleton.index("left_heel")], left)
        torch.testing.assert_close(found[:, skeleton.index(partner("left_heel"))], right)


def test_thunder_scales_by_itself():
    config = Algebraic(skeleton="coco17", backbone="movenet", image_size_px=(256, 256))
    images = random_images(2)[0]
    assert torch.equal(normalise(images, config), images)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("ransac", {}),
        ("algebraic", {"confidences": "image"}),
        ("algebraic", {"confidences": "evidence"}),
        ("volumetric", {"aggregation": "conf_norm"}),
        ("evidence", {}),
    ],
)
def test_every_method_runs_on_it(method, more):
    model = small_model(method, backbone="movenet", **more)
    with torch.no_grad():
        output = model(random_images(3), crop_cameras(3), None, torch.tensor([[0.0, 0.0, 1000.0]]))
    assert output["keypoints_mm"].shape == (1, 17, 3)
    if output["heatmaps"] is not None:
        assert output["heatmaps"].shape == (1, 3, 17, 32, 32)


def test_training_and_prediction_are_the_same_function():
    """Activations are in place where no gradient needs them."""
    network = started(COCO17)
    images = random_images(2)[0]
    with torch.no_grad():
        predicted = network(images).heatmaps
    assert torch.equal(network(images).heatmaps.detach(), predicted)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="no bfloat16 arithmetic")
def test_bfloat16_copy_keeps_the_heatmaps():
    model = small_model("algebraic", backbone="movenet", confidences="none", multiplier=1.0)
    start_from_thunder(model.backbone, COCO17)
    fast, images = for_inference(model), random_images(2)
    assert fast.backbone.encoder.stages[0][0].depthwise.weight.dtype == torch.float32
    assert fast.backbone.encoder.stages[1][0].depthwise.weight.dtype == torch.bfloat16
    with torch.no_grad():
        slow_maps, fast_maps = model.encode_views(images)[0], fast.encode_views(images)[0]
    assert fast_maps.dtype == torch.float32
    assert (slow_maps - fast_maps).norm() < 0.03 * slow_maps.norm()  # 0.11 with the first stage in bfloat16, too
