"""People without the body model, for the tests of simulated detections."""

from __future__ import annotations

import numpy as np
import torch

from scene import walk_mm
from tripose.data.detections.people import JOINTS
from tripose.skeleton import COCO17


def bodies(n: int = 40) -> torch.Tensor:
    """People who walk, as both definitions; what COCO lacks is made of what it has."""
    walk = walk_mm(n) / 1000
    at = {joint: walk[:, i] for i, joint in enumerate(COCO17.joints)}
    shoulders, hips = ((at[f"left_{j}"] + at[f"right_{j}"]) / 2 for j in ("shoulder", "hip"))
    at |= {"neck": shoulders, "pelvis": hips, "spine": (shoulders + hips) / 2, "head_top": at["nose"] + [0, 0, 0.2]}
    for side in ("left", "right"):
        for part in ("big_toe", "small_toe", "heel"):
            at[f"{side}_{part}"] = at[f"{side}_ankle"] + [0, 0.1, -0.05]
    one = np.stack([at[joint] for joint in JOINTS], 1)
    return torch.from_numpy(np.stack([one, one], 1)).float()
