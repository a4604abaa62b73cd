"""Whole methods on random weights against the published pipeline with loops; everywhere, without recorded outputs."""

from __future__ import annotations

import pytest
import torch

from people import SIDE_PX, crop_cameras, small_model
from reference import learned

IMAGES = torch.rand(2, 3, 3, SIDE_PX, SIDE_PX, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"confidences": "none"}, {"multiplier": 30.0, "channels": "bgr"}])
def test_the_algebraic_method_equals_its_twin(options):
    model, cameras = small_model("algebraic", legacy_alignment=True, **options).double(), crop_cameras(3, 2)
    with torch.no_grad():
        fast, slow = model(IMAGES, cameras), learned.algebraic_frame(model, IMAGES, cameras)
    for name in ("keypoints_px", "confidence", "keypoints_mm"):
        torch.testing.assert_close(fast[name], getattr(slow, name), rtol=1e-6, atol=1e-6)


OPTIONS = [*({"aggregation": a} for a in ("sum", "max", "softmax", "conf", "conf_norm")), {"up": "-y"}]


@pytest.mark.parametrize("options", [*OPTIONS, {"softmax": False, "multiplier": 2.0}])
def test_the_volumetric_method_equals_its_twin(options):
    model = small_model("volumetric", legacy_alignment=True, **options)
    model.volume_net = torch.nn.Conv3d(32, 17, 1)  # V2V in float64 takes 7 s for a sample
    model, cameras = model.double(), crop_cameras(3, 2)
    center, yaw = torch.tensor([[0.0, 0.0, 900.0], [100.0, 50.0, 1000.0]]), torch.tensor([0.7, -2.0])
    with torch.no_grad():
        fast = model(IMAGES, cameras, None, center, yaw_rad=yaw)
        slow = learned.volumetric_frame(model, IMAGES, cameras, center, yaw)
    torch.testing.assert_close(fast["volumes"], slow.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fast["keypoints_mm"], slow.keypoints_mm, rtol=1e-9, atol=1e-6)
