"""Batches of simulated detections with their truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tripose.data.detections.noise import Noise, body_of, detect
from tripose.data.detections.people import JOINTS
from tripose.data.detections.rigs import normal, project, random_rigs, uniform
from tripose.skeleton import Skeleton

# A joint is where a detector has learned that it is: mm-sized offsets that are the same in all views.
_DEFINITION_M, _HIP_DEFINITION_M = 0.008, 0.015


@dataclass(frozen=True)
class Detected:
    """Simulated detections of one moment of many people.

    Attributes:
        origin: of the cameras, metres.
        direction: of the rays, of length one.
        score: 0 where nothing is detected.
        truth: the joints, metres.
    """

    origin: Float[Tensor, "person view 3"]
    direction: Float[Tensor, "person view joint 3"]
    score: Float[Tensor, "person view joint"]
    truth: Float[Tensor, "person joint 3"]


def simulate(
    people: Float[Tensor, "any definition 27 3"],
    n: int,
    views: int,
    skeleton: Skeleton,
    noise: Noise,
    g: torch.Generator,
) -> Detected:
    """Random people before random rigs, as a detector of this skeleton sees them.

    Args:
        people: see `tripose.data.detections.people`.
        n: how many.
        views: of each.
        skeleton: joints of the detector.
        noise: how bad it is.
        g: source of chance.
    """
    chosen = people[torch.randint(len(people), (n,), generator=g)]
    truth = vary(chosen, skeleton, g)
    rotation, centre = random_rigs(g, n, views)
    return seen_by(truth, rotation, centre, skeleton, noise, g)


def seen_by(
    truth: Float[Tensor, "person joint 3"],
    rotation: Float[Tensor, "person view 3 3"],
    centre: Float[Tensor, "person view 3"],
    skeleton: Skeleton,
    noise: Noise,
    g: torch.Generator,
) -> Detected:
    """People in metres, before given cameras."""
    image, depth = project(truth, rotation, centre)
    found, score = detect(image, depth, sizes(truth, skeleton), body_of(skeleton.joints), noise, g)
    ahead = torch.cat([found, torch.ones_like(found[..., :1])], -1)
    direction = torch.einsum("bvki,bvjk->bvji", rotation, ahead)
    return Detected(centre, torch.nn.functional.normalize(direction, dim=-1), score, truth)


def sizes(joints: Float[Tensor, "person joint 3"], skeleton: Skeleton) -> Float[Tensor, " person"]:
    """Size of people, one for 1.75 m: by thighs, shanks, and the trunk."""
    length = joints.new_zeros(len(joints))
    for side in ("left", "right"):
        for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip")):
            ends = joints[:, [skeleton.index(f"{side}_{a}"), skeleton.index(f"{side}_{b}")]]
            length = length + (ends[:, 0] - ends[:, 1]).norm(dim=-1) / 2
    return length / 1.27


def vary(
    chosen: Float[Tensor, "person definition 27 3"], skeleton: Skeleton, g: torch.Generator
) -> Float[Tensor, "person joint 3"]:
    """People of other proportions, facing anywhere, some mirrored, with joints somewhere between two definitions."""
    n = len(chosen)
    between = uniform(g, n, 1, 1)
    body = chosen[:, 0] * between + chosen[:, 1] * (1 - between)
    at = {joint: body[:, i] for i, joint in enumerate(JOINTS)}
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    at["neck"] = at["neck"] + (shoulders - at["neck"]) * uniform(g, n, 1)
    at["thorax"] = shoulders
    joints = torch.stack([at[joint] for joint in skeleton.joints], 1)
    joints = joints - joints.mean(1, keepdim=True) * torch.tensor([1.0, 1.0, 0.0])
    joints = joints * torch.exp(0.06 * normal(g, n, 1, 3))  # wide and narrow, tall and small
    size = torch.tensor([_HIP_DEFINITION_M if "hip" in j else _DEFINITION_M for j in skeleton.joints])
    joints = joints + size[:, None] * normal(g, n, len(skeleton), 3)
    mirrored = (joints * torch.tensor([-1.0, 1.0, 1.0]))[:, skeleton.mirror]
    joints = torch.where(torch.rand(n, 1, 1, generator=g) < 0.5, mirrored, joints)
    angle = uniform(g, n, high=2 * math.pi)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(n)
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], -1).view(n, 3, 3)
    return joints @ turn.mT
