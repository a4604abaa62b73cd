"""The released weights of MoveNet, and how a network for other joints starts from them."""

from __future__ import annotations

from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor

from tripose.models.pose_movenet import PoseMoveNet
from tripose.skeleton import COCO17, Skeleton

THUNDER = "movenet_thunder.safetensors"
MULTIPOSE = "movenet_multipose.safetensors"

# Joints that MoveNet does not know begin as the average of the channels of their neighbours.
_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_NEIGHBOURS = {
    "head_top": ("nose", "left_eye", "right_eye"),
    "neck": _SHOULDERS,
    "thorax": _SHOULDERS,
    "spine": _SHOULDERS + _HIPS,
    "pelvis": _HIPS,
    **{f"{side}_{part}": (f"{side}_ankle",) for side in ("left", "right") for part in ("heel", "big_toe", "small_toe")},
}


def released_weights(filename: str) -> dict[str, Tensor]:
    """Tensors by name, float32, of one of the files that ship with the package: `THUNDER` or `MULTIPOSE`."""
    weights = load(resources.files("tripose").joinpath("weights", filename).read_bytes())
    return {name: weight.float() for name, weight in weights.items()}


def start_from_thunder(network: PoseMoveNet, skeleton: Skeleton) -> None:
    """Give a network MoveNet Thunder's trunk, and for every joint the heatmap that comes closest to it.

    Args:
        network: changed.
        skeleton: its joints. Those of COCO keep their heatmap, others start with the average of their neighbours'.
    """
    released = released_weights(THUNDER)
    own = network.state_dict()
    shared = {k: v for k, v in released.items() if k in own}
    channels = [[COCO17.index(name) for name in _NEIGHBOURS.get(joint, (joint,))] for joint in skeleton.joints]
    for name in ("keypoint_heatmap.1.weight", "keypoint_heatmap.1.bias"):
        shared[name] = torch.stack([released[name][c].mean(0) for c in channels])
    # What MoveNet does not have: confidences, and the wide heatmaps, whose last layer is zero.
    missing, _ = network.load_state_dict(shared, strict=False)
    assert all(name.startswith(("alg_confidences.", "vol_confidences.", "wide_")) for name in missing)
