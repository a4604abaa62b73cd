"""Outputs of the published implementation, recorded on random weights; where they are, tests compare with them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tripose.cameras import Cameras
from tripose.models.config import IMAGENET_MEAN, IMAGENET_STD

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "golden"
FOLDER = Path(os.environ.get("TRIPOSE_GOLDEN", _DEFAULT))

golden = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no recorded outputs of the published implementation"),
]

UP = {"mpii": "z", "coco": "-y"}
SKELETON = {"mpii": "h36m17", "coco": "coco17"}
MADE_LIKE = {
    "backbone": "resnet18",
    "image_size_px": (128, 128),
    "legacy_alignment": True,
    "channels": "bgr",
}


@cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as content:
        return dict(content)


@cache
def weights() -> dict[str, torch.Tensor]:
    """The random weights, by their published names."""
    stored = load("weights_q8")
    result = {}
    for key, value in stored.items():
        if not key.endswith("::scale"):
            scale = stored.get(f"{key}::scale")
            result[key] = torch.as_tensor(value if scale is None else value.astype(np.float32) * scale)
    return result


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Load the weights that the model has; all must be there."""
    model.load_state_dict({key: weights()[key] for key in model.state_dict()}, strict=True)
    return model.eval()


def images(kind: str) -> torch.Tensor:
    """[2, 4, 3, 128, 128] RGB in 0..1, float64: what was recorded as normalised BGR."""
    recorded = torch.as_tensor(load(f"inputs_{kind}")["images"]).double()
    mean, std = (recorded.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (recorded * std + mean).flip(2)


def cameras(kind: str) -> Cameras:
    """The crop cameras of both samples."""
    content = load(f"inputs_{kind}")
    K, R, t = (torch.as_tensor(content[k]).double() for k in ("K_net", "R", "t"))
    return Cameras(
        K=K,
        R=R.expand(2, 4, 3, 3),
        t=t[..., 0].expand(2, 4, 3),
        distortion=torch.zeros(2, 4, 14, dtype=torch.float64),
        size_px=torch.full((2, 4, 2), 128),
        names=("a", "b", "c", "d"),
        lens=("pinhole",) * 4,
        up=UP[kind],
    )
