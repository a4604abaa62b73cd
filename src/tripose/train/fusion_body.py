"""The mean body that the fusion network starts from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tripose.data.detections.people import JOINTS
from tripose.data.detections.samples import sizes
from tripose.models.fusion_joints import BONES, KINDS
from tripose.skeleton import custom, partner


def mean_body(
    people: Float[Tensor, "person definition 27 3"],
) -> tuple[Float[Tensor, "kind 3"], Float[Tensor, " bone"]]:
    """The left side of the mean body in its own frame, and the median length of its bones; units of the person's size.

    The frame: x to the left, z from the hips to the shoulders, the origin in the middle of these four.
    """
    body = people.double().mean(1)
    at = {joint: body[:, i] for i, joint in enumerate(JOINTS)}
    at["thorax"] = (at["left_shoulder"] + at["right_shoulder"]) / 2
    hips, shoulders = ((at[f"left_{joint}"], at[f"right_{joint}"]) for joint in ("hip", "shoulder"))
    up = torch.nn.functional.normalize(sum(shoulders) - sum(hips), dim=-1)  # type: ignore[arg-type]
    left = hips[0] - hips[1] + shoulders[0] - shoulders[1]
    left = torch.nn.functional.normalize(left - (left * up).sum(-1, keepdim=True) * up, dim=-1)
    axes = torch.stack([left, torch.linalg.cross(up, left), up], 1)
    middle = (sum(hips) + sum(shoulders)) / 4
    size = sizes(body, custom("all", JOINTS))[:, None]
    own = {joint: torch.einsum("bxi,bi->bx", axes, p - middle) / size for joint, p in at.items()}
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    names = [kind if kind in own else f"left_{kind}" for kind in KINDS]
    template = torch.stack([(own[name].mean(0) + own[partner(name)].mean(0) * mirror) / 2 for name in names])
    ends = [(f"left_{a}", f"{'right' if other else 'left'}_{b}") for a, b, other in BONES]
    length = torch.stack([(own[a] - own[b]).norm(dim=-1).median() for a, b in ends])
    return template.float(), length.float()
