"""Learned fusion: what a body can be and how detectors err, with the rays of any detector before any rig.

The network sees rays in the frame of the body, in units of the body: no pixels, no metres, no gravity. It says how much
every ray counts and where it expects every joint, how surely; the position is the closed form of these. Twice, the
second time knowing the first answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tripose.errors import TriposeError
from tripose.geometry.ray_fusion import RayBundle, body_frame, centred, reweighted, solve
from tripose.models.fusion_certainty import FREEDOM
from tripose.models.fusion_joints import BONES, FIRMNESS, KINDS, Layout
from tripose.models.fusion_stage import Frame, Fused, Stage, to_places

# Error of every ray, in units of a person, from which the first stage is told how well the rays determine a joint.
_FIRST_SIGMA = 0.02


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """The size of the network.

    Attributes:
        view_channels: of tokens that stand for a joint in a view.
        channels: of tokens that stand for a joint.
        layers: of attention among the latter, in the second stage; the first one has one.
        heads: of all attention.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    method: Literal["fusion"] = "fusion"
    view_channels: int = 32
    channels: int = 64
    layers: int = 2
    heads: int = 2

    def __post_init__(self) -> None:
        """Refuse what no network could be built with.

        Raises:
            TriposeError: naming the entry and its value.
        """
        for name in ("view_channels", "channels", "layers", "heads"):
            if getattr(self, name) < 1:
                raise TriposeError(f"{name} is {getattr(self, name)}; it has to be positive")
        for name in ("view_channels", "channels"):
            if getattr(self, name) % self.heads:
                raise TriposeError(f"{name} is {getattr(self, name)}, which {self.heads} heads cannot share evenly")


class Answers(NamedTuple):
    """What is found, one after the other.

    Attributes:
        start: robust triangulation of the rays, without a network.
        first: of the first stage.
        second: of the second one, which is the result.
        unit: of the person, about the height over 1.75.
    """

    start: Float[Tensor, "batch joint 3"]
    first: Fused
    second: Fused
    unit: Float[Tensor, " batch"]


class FusionTriangulation(nn.Module):
    """The network; weights of the template are set by training."""

    def __init__(self, config: Fusion) -> None:
        super().__init__()
        self.config = config
        few, many, heads = config.view_channels, config.channels, config.heads
        # The first answer is what the second stage starts from, no more: half of a stage will do.
        self.first = Stage(few, many, 1, heads, within_views=False)
        self.second = Stage(few, many, config.layers, heads)
        # A mean body: kinds of joints on the left side of its own frame, in units of the person; and its bones.
        self.register_buffer("template", torch.zeros(len(KINDS), 3))
        self.register_buffer("bone_length", torch.ones(len(BONES)))
        # By number of views, the last one for more of them, set by validation: what `fusion_certainty.scaled` makes of
        # the scale matrices, and degrees of freedom of the errors' Student t distribution.
        self.register_buffer("covariance_scale", torch.ones(9))
        self.register_buffer("covariance_power", torch.zeros(9))
        self.register_buffer("freedom", torch.full((9,), FREEDOM))
        self.template: Tensor
        self.bone_length: Tensor
        self.covariance_scale: Tensor
        self.covariance_power: Tensor
        self.freedom: Tensor

    def set_body(self, template: Float[Tensor, "kind 3"], bone_length: Float[Tensor, " bone"]) -> None:
        """The mean body that the network starts from."""
        self.template.copy_(template)
        self.bone_length.copy_(bone_length)

    def forward(self, rays: RayBundle, layout: Layout) -> Answers:
        """Answers in the coordinates of the rays given, which are float64.

        People that fewer than two views see get answers, which mean nothing.
        """
        local, middle, unit = centred(rays)
        start = position = reweighted(local)
        _, inverse, _ = solve(local, local.seen)
        covariance, answers = inverse * _FIRST_SIGMA**2, []
        for stage in (self.first, self.second):
            frame = self._frame(position.detach(), local, layout)
            said = stage(local, position.detach(), covariance.detach(), frame, self._template(layout), layout)
            position, covariance = said.position, said.covariance
            answers.append(_outside(said, middle, unit))
        return Answers(start * unit[:, None, None] + middle[:, None], answers[0], answers[1], unit)

    def _template(self, layout: Layout) -> Float[Tensor, "side kind 3"]:
        left = self.template[layout.kinds].double()
        return torch.stack([left, left * left.new_tensor([-1.0, 1.0, 1.0])])

    def _frame(self, position: Float[Tensor, "batch joint 3"], rays: RayBundle, layout: Layout) -> Frame:
        views = rays.seen.sum(1)
        certain = torch.where(views > 1.5, 1.0, torch.where(views > 0.5, 0.1, 1e-3)).to(views)
        at, sure = to_places(position, layout).flatten(1, 2), to_places(certain[..., None], layout).flatten(1)
        firm = at.new_tensor(FIRMNESS)[layout.kinds].repeat(2)
        template = self._template(layout).flatten(0, 1)
        weight = firm * sure + 1e-9
        axes, middle = body_frame(at, template, weight)
        first, second, which = layout.bones.T
        ends = torch.minimum(sure[:, first], sure[:, second])
        ratio = (at[:, first] - at[:, second]).norm(dim=-1) / self.bone_length[which].double()
        ratio = ratio.clamp(min=1e-3).log().clamp(-0.8, 0.8)
        size = torch.exp((ends * ratio).sum(-1) / ends.sum(-1))
        share = weight / weight.sum(-1, keepdim=True)
        offset = torch.einsum("bxi,bx->bi", axes, share @ template)
        return Frame(axes, middle - size[:, None] * offset, size)


def _outside(said: Fused, middle: Float[Tensor, "batch 3"], unit: Float[Tensor, " batch"]) -> Fused:
    """From `centred` coordinates to those before."""
    size = unit[:, None, None]
    square = size[..., None] ** 2
    return Fused(
        said.position * size + middle[:, None], said.covariance * square, said.information / square,
        said.precision / square, said.weight / size**2,
    )  # fmt: skip
