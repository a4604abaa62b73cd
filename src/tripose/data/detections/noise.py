"""What a detector gets wrong: a random model of keypoints, as measured on real ones.

Errors are metres across the ray at the person's distance, of somebody of 1.75 m; more or less in proportion to the
person's size, because detectors err in proportion to the person's image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.data.detections.rigs import normal, uniform
from tripose.errors import TriposeError
from tripose.skeleton import partner

Between = tuple[float, float]
Image = Float[Tensor, "person view joint 2"]
Flags = Bool[Tensor, "person view joint"]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How bad detections are; of each, a sample has something between the two numbers.

    Attributes:
        sigma: standard deviation of a good observation, log-uniform; metres of somebody of 1.75 m.
        occluded: share of views in which a group of joints is hidden.
        outliers: share of observations that are elsewhere: at another joint, or near the person.
        swapped: share of views in which left and right are exchanged, of arms, legs or all.
        missing: share of observations that are not there.
        calibration: shift of a whole view, standard deviation; the same metres.
        skewed: whether shares and shifts lean towards their smaller numbers, as squares of uniform numbers do.
        clean: share of samples that have a tenth of all this but of sigma, which is the smallest.
        varied: whether, besides, whole views are lost, a detector lacks joints, images are cut, and scores are
            stretched, or all the same, or up to 20 times smaller, as peaks of heatmaps are.
    """

    sigma: Between = (0.004, 0.026)
    occluded: Between = (0.0, 0.6)
    outliers: Between = (0.0, 0.12)
    swapped: Between = (0.0, 0.1)
    missing: Between = (0.0, 0.15)
    calibration: Between = (0.0, 0.015)
    skewed: bool = True
    clean: float = 0.0
    varied: bool = True

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            TriposeError: naming the entry and its value.
        """
        for name in ("sigma", "occluded", "outliers", "swapped", "missing", "calibration"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1 or (name == "sigma" and low == 0):
                raise TriposeError(f"{name} is {[low, high]}; expected two numbers in 0..1, the smaller one first")


TRAINING = Noise(calibration=(0.0, 0.06), clean=0.3)
CLEAN = Noise(
    sigma=(0.007, 0.012), occluded=(0, 0.05), outliers=(0, 0.01), swapped=(0, 0.01), missing=(0, 0.02),
    calibration=(0.003, 0.003), skewed=False, varied=False,
)  # fmt: skip
OCCLUDED = Noise(
    sigma=(0.008, 0.016), occluded=(0.3, 0.5), outliers=(0.03, 0.08), swapped=(0.01, 0.04), missing=(0.02, 0.08),
    calibration=(0.006, 0.006), skewed=False, varied=False,
)  # fmt: skip
SETTINGS = {"training": TRAINING, "clean": CLEAN, "occluded": OCCLUDED}

# Part of the usual error by joint: measured on OpenPose, Shelf.
_FACTOR = {
    "nose": 0.6, "eye": 0.6, "ear": 0.7, "head_top": 0.9, "neck": 0.9, "thorax": 0.9, "shoulder": 1.0, "elbow": 0.95,
    "wrist": 1.15, "hip": 1.75, "pelvis": 1.5, "spine": 1.5, "knee": 1.3, "ankle": 1.0, "big_toe": 1.1,
    "small_toe": 1.1, "heel": 1.1,
}  # fmt: skip
_GROUPS = (
    "{s}_elbow {s}_wrist", "{s}_shoulder {s}_elbow {s}_wrist", "{s}_knee {s}_ankle {s}_heel {s}_big_toe {s}_small_toe",
    "{s}_hip {s}_knee {s}_ankle {s}_heel {s}_big_toe {s}_small_toe", "{s}_ankle {s}_heel {s}_big_toe {s}_small_toe",
)  # fmt: skip
_BOTH = (
    "ankle heel big_toe small_toe", "knee ankle heel big_toe small_toe", "nose eye ear head_top", "hip pelvis knee",
    "nose eye ear head_top neck thorax shoulder elbow wrist spine",
)  # fmt: skip


@dataclass(frozen=True)
class Body:
    """What the noise needs to know of a skeleton.

    Attributes:
        factor: size of the usual error of every joint.
        groups: joints that are hidden together.
        mirror: the joint on the other side.
        arms, legs: the joints of them.
    """

    factor: Float[Tensor, " joint"]
    groups: Bool[Tensor, "group joint"]
    mirror: tuple[int, ...]
    arms: tuple[int, ...]
    legs: tuple[int, ...]


def body_of(joints: tuple[str, ...]) -> Body:
    """Groups and factors of a skeleton's joints."""
    kinds = [joint.removeprefix("left_").removeprefix("right_") for joint in joints]
    names = [set(group.format(s=side).split()) for group in _GROUPS for side in ("left", "right")]
    groups = [[joint in group for joint in joints] for group in names]
    groups += [[kind in group.split() for kind in kinds] for group in _BOTH]
    upper, lower = "shoulder elbow wrist".split(), "hip knee ankle heel big_toe small_toe".split()
    return Body(
        torch.tensor([_FACTOR[kind] for kind in kinds]),
        torch.tensor([group for group in groups if any(group)]),
        tuple(joints.index(partner(j)) if partner(j) in joints else i for i, j in enumerate(joints)),
        tuple(i for i, kind in enumerate(kinds) if kind in upper),
        tuple(i for i, kind in enumerate(kinds) if kind in lower),
    )


def detect(
    image: Image,
    depth: Float[Tensor, "person view joint"],
    size: Float[Tensor, " person"],
    body: Body,
    noise: Noise,
    g: torch.Generator,
) -> tuple[Image, Float[Tensor, "person view joint"]]:
    """What a detector says of people whose true image positions are known.

    Args:
        image: normalised positions.
        depth: of the joints, metres.
        size: of the people; one for 1.75 m.
        body: of the joints.
        noise: how bad it is.
        g: source of chance.

    Returns:
        Positions, and scores in 0..1, which are 0 where nothing is detected.
    """
    people, views, joints = depth.shape
    apparent = (size[:, None] / depth.mean(-1).clamp(min=0.3)).clamp(max=2.0)[:, :, None, None]
    level = _levels(noise, people, g)
    shown = _swap(image, body, level["swapped"], g)
    sigma = level["sigma"] * torch.exp(0.3 * normal(g, people, views, 1) + 0.5 * normal(g, people, views, joints))
    sigma = sigma * body.factor
    hidden, worse, shift = _occlude(body, level["occluded"], views, g)
    sigma = sigma * worse
    spread = normal(g, people, views, joints, 2) * torch.exp(0.25 * normal(g, people, views, joints, 1))
    of_view = level["calibration"][..., None] * normal(g, people, views, 1, 2)
    elsewhere, there = _outliers(shown, body, level["outliers"], apparent, g)
    found = torch.where(elsewhere[..., None], there, shown) + (spread * sigma[..., None] + shift + of_view) * apparent
    score = _scores(sigma, elsewhere, hidden, noise.varied, g)
    gone = torch.rand(people, views, joints, generator=g) < level["missing"]
    gone = gone | (hidden & (torch.rand(people, views, joints, generator=g) < 0.35 * _half(people, views, g)))
    if noise.varied:
        gone = gone | _lost(image, body, apparent, g)
    return found, torch.where(gone | (depth < 0.1), 0.0, score)


def _levels(noise: Noise, people: int, g: torch.Generator) -> dict[str, Float[Tensor, "person 1 1"]]:
    clean = torch.rand(people, 1, 1, generator=g) < noise.clean
    power = 2.0 if noise.skewed else 1.0
    level = {}
    for name in ("occluded", "outliers", "swapped", "missing", "calibration"):
        low, high = getattr(noise, name)
        value = low + (high - low) * torch.rand(people, 1, 1, generator=g) ** power
        level[name] = torch.where(clean, 0.1 * value, value)
    low, high = torch.tensor(noise.sigma).log()
    usual = torch.exp(low + (high - low) * torch.rand(people, 1, 1, generator=g))
    level["sigma"] = torch.where(clean, noise.sigma[0] * uniform(g, people, 1, 1, low=0.5, high=1.5), usual)
    return level


def _half(people: int, views: int, g: torch.Generator) -> Tensor:
    return (torch.rand(people, views, 1, generator=g) < 0.5).float()


def _swap(image: Image, body: Body, share: Tensor, g: torch.Generator) -> Image:
    """Left for right, of arms, of legs, of all."""
    joints, (people, views) = image.shape[2], image.shape[:2]
    for group in (body.arms, body.legs, tuple(range(joints))):
        order = [body.mirror[j] if j in group else j for j in range(joints)]
        swapped = torch.rand(people, views, 1, 1, generator=g) < 0.7 * share[..., None]
        image = torch.where(swapped, image[:, :, order], image)
    return image


def _occlude(body: Body, share: Tensor, views: int, g: torch.Generator) -> tuple[Flags, Tensor, Tensor]:
    """Which joints are hidden, by what factor they are worse, and where their group is seen instead."""
    people, joints = len(share), len(body.factor)
    hidden = torch.zeros(people, views, joints, dtype=torch.bool)
    worse, shift = torch.ones(people, views, joints), torch.zeros(people, views, joints, 2)
    for _ in range(2):
        which = torch.randint(len(body.groups), (people, views), generator=g)
        group = body.groups[which] & (torch.rand(people, views, 1, generator=g) < share)
        hidden = hidden | group
        worse = torch.where(group, uniform(g, people, views, 1, low=1.5, high=6.0), worse)
        moved = normal(g, people, views, 1, 2) * uniform(g, people, views, 1, 1, high=0.045)
        shift = shift + group[..., None] * moved
    return hidden, worse, shift


def _outliers(image: Image, body: Body, share: Tensor, apparent: Tensor, g: torch.Generator) -> tuple[Flags, Image]:
    """Which observations are elsewhere, and where: at another joint, near the person, or a whole limb moved away."""
    people, views, joints = image.shape[:3]
    wrong = torch.rand(people, views, joints, generator=g) < share
    other = torch.randint(joints, (people, views, joints), generator=g)
    at_other = image.gather(2, other[..., None].expand(-1, -1, -1, 2))
    near = image.mean(2, keepdim=True) + 0.45 * normal(g, people, views, joints, 2) * apparent
    there = torch.where(torch.rand(people, views, joints, 1, generator=g) < 0.5, at_other, near)
    which = torch.randint(len(body.groups), (people, views), generator=g)
    limb = body.groups[which] & (torch.rand(people, views, 1, generator=g) < 0.3 * share)
    moved = image + 0.6 * normal(g, people, views, 1, 2) * apparent
    # Now and then the detector has somebody else in view.
    whole = torch.rand(people, views, 1, generator=g) < 0.05 * share
    return wrong | limb | whole, torch.where((limb | whole)[..., None], moved, there)


def _scores(sigma: Tensor, elsewhere: Flags, hidden: Flags, varied: bool, g: torch.Generator) -> Tensor:
    """Scores fall with the size of the error, imperfectly; some who are wrong are sure all the same."""
    people, views, joints = sigma.shape
    own = 0.7 * normal(g, people, views, joints) + 0.3 * normal(g, people, views, 1)
    logit = 1.6 - torch.log(sigma / 0.010 * torch.where(elsewhere, 4.0, 1.0)) + own
    sure = (torch.rand(people, views, joints, generator=g) < 0.3) & (elsewhere | hidden)
    logit = torch.where(sure, 1.6 + 0.7 * normal(g, people, views, joints), logit)
    score = torch.sigmoid(logit).clamp(0.02, 0.99)
    if not varied:
        return score
    score = score ** torch.exp(uniform(g, people, 1, 1, low=-1.0, high=0.7))
    score = torch.where(torch.rand(people, 1, 1, generator=g) < 0.12, 0.9, score)
    small = torch.rand(people, 1, 1, generator=g) < 0.3
    return torch.where(small, score * torch.exp(uniform(g, people, 1, 1, low=-3.0, high=0.0)), score)


def _lost(image: Image, body: Body, apparent: Tensor, g: torch.Generator) -> Flags:
    """Views without a detection, joints that a detector does not have, images that end below the person."""
    people, views, joints = image.shape[:3]
    lost = torch.rand(people, views, 1, generator=g) < 0.02
    inner = torch.ones(joints, dtype=torch.bool)
    inner[list(body.arms + body.legs)] = False
    lacking = inner & (torch.rand(people, 1, joints, generator=g) < 0.25)
    lacking = lacking | (inner & (torch.rand(people, 1, 1, generator=g) < 0.08))
    low = torch.zeros(joints, dtype=torch.bool)
    low[list(body.legs)] = True
    lacking = lacking | (low & (torch.rand(people, 1, 1, generator=g) < 0.04))
    cut = torch.rand(people, views, 1, generator=g) < 0.12
    below = image[..., 1] - image[..., 1].mean(-1, keepdim=True)
    edge = apparent[..., 0] * uniform(g, people, views, 1, low=-0.1, high=0.9)
    return lost | lacking | (cut & (below > edge))
