"""One stage of the fusion network: from an answer to a better one."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tripose.geometry.ray_fusion import RayBundle, solve
from tripose.models.fusion_joints import KINDS, Layout
from tripose.models.fusion_net import Mixer, SidedAttention, ViewPooling, pooled

_FEATURES, _VIEW_FEATURES, _JOINT_FEATURES = 11, 5, 5
# Usual size of an error and of a surprise, in units of a person: what the network's outputs are multiples of.
_RAY_SIGMA, _PRIOR_SIGMA = 0.03, 0.1


class Fused(NamedTuple):
    """What a stage says, in the coordinates of its rays.

    Attributes:
        position: of the joints.
        covariance: of the error.
        information: of the rays alone, the inverse of a covariance.
        precision: of what the network expects, likewise.
        weight: of the rays, one over a variance.
    """

    position: Float[Tensor, "batch joint 3"]
    covariance: Float[Tensor, "batch joint 3 3"]
    information: Float[Tensor, "batch joint 3 3"]
    precision: Float[Tensor, "batch joint 3 3"]
    weight: Float[Tensor, "batch view joint"]


class Frame(NamedTuple):
    """A body's own frame.

    Attributes:
        axes: rows x (left), y, z (up).
        middle: its origin.
        size: its unit, in that of the rays.
    """

    axes: Float[Tensor, "batch 3 3"]
    middle: Float[Tensor, "batch 3"]
    size: Float[Tensor, " batch"]


class Stage(nn.Module):
    """From an answer to a better one.

    Args:
        few: channels of tokens that stand for a joint in a view.
        many: channels of tokens that stand for a joint.
        layers: of attention among the latter.
        heads: of all attention.
        within_views: whether the joints of a view look at each other.
    """

    def __init__(self, few: int, many: int, layers: int, heads: int, *, within_views: bool = True) -> None:
        super().__init__()
        self.enter = nn.Linear(_FEATURES, few)
        self.enter_view, self.enter_joint = nn.Linear(_VIEW_FEATURES, few), nn.Linear(_JOINT_FEATURES, few)
        self.kind = nn.Parameter(0.3 * torch.randn(len(KINDS), few))
        self.among_joints = SidedAttention(few, heads) if within_views else nn.Identity()
        self.among_views = ViewPooling(few)
        self.mix = Mixer(few)
        self.say = nn.Linear(few, 2 * few)
        self.pool = nn.Linear(2 * few + _JOINT_FEATURES, many)
        pairs = [(SidedAttention(many, heads), Mixer(many)) for _ in range(layers)]
        self.body = nn.Sequential(*(part for pair in pairs for part in pair), nn.LayerNorm(many))
        self.tell, self.recall = nn.Linear(many, few), nn.Linear(_FEATURES, few)
        self.think, self.weigh = nn.Linear(few, few), nn.Linear(few, 1)
        self.expect = nn.Sequential(nn.Linear(many, many), nn.GELU(), nn.Linear(many, 11))
        last = self.expect[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)

    def forward(
        self,
        rays: RayBundle,
        position: Float[Tensor, "batch joint 3"],
        covariance: Float[Tensor, "batch joint 3 3"],
        frame: Frame,
        template: Float[Tensor, "side kind 3"],
        layout: Layout,
    ) -> Fused:
        """A better answer than `position`, in the same coordinates."""
        seen, of_views, of_joints, at = _features(rays, position, covariance, frame, layout)
        known = self.enter_joint(of_joints) + self.kind[layout.kinds]
        x = self.enter(seen) + self.enter_view(of_views)[:, :, :, None] + known[:, None]
        valid = rays.score.amax(-1) > 0
        x = self.mix(self.among_views(self.among_joints(x), valid))
        body = self.body(self.pool(torch.cat([pooled(self.say(x), valid), of_joints], -1)))
        weight = self.weigh(F.gelu(self.think(x) + self.recall(seen) + self.tell(body)[:, None]))
        return _conclude(rays, weight, self.expect(body), at, frame, template, layout)


def _features(
    rays: RayBundle,
    position: Float[Tensor, "batch joint 3"],
    covariance: Float[Tensor, "batch joint 3 3"],
    frame: Frame,
    layout: Layout,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of joints in views, of views, of joints; and positions: [batch (view) side (kind) feature], on each side in its
    mirror, in units of the body.
    """
    seen, score = rays.seen.float(), rays.score.float()
    usual = score.sum((1, 2), keepdim=True) / seen.sum((1, 2), keepdim=True).clamp(min=1)
    relative = (score / usual.clamp(min=1e-3)).clamp(max=3) - 1
    # Differences of places are taken in float64; what is left is near one.
    own = Frame(*(part.float() for part in frame))
    camera = _turned((rays.origin - frame.middle[:, None]).float(), own)
    passing = _turned(rays.offset(frame.middle[:, None]).float(), own)
    missed = _turned(rays.offset(position).float(), own)
    at = _turned(position - frame.middle[:, None], frame)
    far = missed.norm(dim=-1, keepdim=True)
    vectors = torch.cat([passing.clamp(-2, 2), torch.asinh(missed / 0.03) / 3], -1)
    plain = torch.stack([seen, score, relative], -1)
    both = torch.cat([plain, vectors, torch.asinh(far / 0.02) / 2, torch.log(score.clamp(min=1e-3))[..., None] / 3], -1)
    of_observations = _mirrored(to_places(both * seen[..., None], layout), (3, 6))
    distance = camera.norm(dim=-1, keepdim=True).clamp(min=1e-2)
    views = (rays.score.amax(-1) > 0).sum(1)[:, None, None].expand_as(distance)
    of_view = torch.cat([camera / distance, (torch.log(distance) - 1.2) / 0.5, ((views - 4) / 3).clamp(max=2)], -1)
    of_views = _mirrored(of_view[:, :, None, None].expand(-1, -1, 2, 1, -1), (0,))[..., 0, :]
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    uncertain = torch.log(variance.clamp(min=1e-12).sqrt() / frame.size[:, None]).clamp(-6, 3) / 3
    share = seen.sum(1) / (rays.score.amax(-1) > 0).sum(1, keepdim=True).clamp(min=1)
    of_joint = torch.cat([at.clamp(-1.6, 1.6), uncertain[..., None], share[..., None]], -1)
    of_joints = _mirrored(to_places(of_joint.float(), layout), (0,))
    return of_observations, of_views, of_joints, _mirrored(to_places(at, layout), (0,))


def _conclude(
    rays: RayBundle,
    weight: Float[Tensor, "batch view side kind 1"],
    expected: Float[Tensor, "batch side kind 11"],
    at: Float[Tensor, "batch side kind 3"],
    frame: Frame,
    template: Float[Tensor, "side kind 3"],
    layout: Layout,
) -> Fused:
    """The closed form, of what the network says in each side's mirror."""
    size = frame.size[:, None, None]
    scale = size**2
    log_weight = _to_joints(weight.double(), layout)[..., 0]
    weight = torch.exp(log_weight.clamp(-9, 7)) / _RAY_SIGMA**2 / scale * rays.seen
    shift, factors, mixed, certainty = expected.double().split((3, 6, 1, 1), -1)
    trust = torch.sigmoid(mixed - 1)
    own = template[:1]  # of the left side; the other one is its mirror image
    mean = _mirrored(trust * at + (1 - trust) * own + shift, (0,))
    precision = _precision(factors)
    flip = precision.new_tensor([[1.0, -1, -1], [-1, 1, 1], [-1, 1, 1]])
    precision = torch.stack([precision[:, 0], precision[:, 1] * flip], 1) / _PRIOR_SIGMA**2
    mean = _to_joints(mean, layout) @ frame.axes * size + frame.middle[:, None]
    precision = _to_joints(precision.flatten(-2), layout).unflatten(-1, (3, 3))
    axes = frame.axes[:, None]
    precision = axes.mT @ precision @ axes / scale[..., None]
    position, inverse, information = solve(rays, weight, mean, precision)
    spread = torch.exp(_to_joints(certainty, layout)[..., None].clamp(-3, 3))
    return Fused(position, inverse * spread, information, precision, weight)


def _precision(factors: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Positive definite matrices from their Cholesky factors."""
    a, b, c = torch.exp(factors[..., :3].clamp(-4, 4)).unbind(-1)
    d, e, f = factors[..., 3:].unbind(-1)
    zero = torch.zeros_like(a)
    lower = torch.stack([a, zero, zero, d, b, zero, e, f, c], -1).unflatten(-1, (3, 3))
    matrix: Tensor = lower @ lower.mT
    return matrix


def _turned(vectors: Float[Tensor, "batch *any 3"], frame: Frame) -> Float[Tensor, "batch *any 3"]:
    """Into the frame of the body, in its units."""
    axes = frame.axes / frame.size[:, None, None]
    turned: Tensor = (vectors.flatten(1, -2) @ axes.mT).view_as(vectors)
    return turned


def to_places(values: Float[Tensor, "*batch joint value"], layout: Layout) -> Float[Tensor, "*batch side kind value"]:
    """From joints to places; zeros where there is no joint."""
    padded = torch.cat([values, torch.zeros_like(values[..., :1, :])], -2)
    places: Tensor = padded.index_select(-2, layout.joint_of.flatten()).unflatten(-2, layout.joint_of.shape)
    return places


def _to_joints(values: Float[Tensor, "*batch side kind value"], layout: Layout) -> Float[Tensor, "*batch joint value"]:
    """From places to joints; those in the middle get the mean of both sides."""
    flat, (first, second) = values.flatten(-3, -2), layout.place_of.T
    return (flat.index_select(-2, first) + flat.index_select(-2, second)) / 2


def _mirrored(
    values: Float[Tensor, "*batch side kind value"], x: tuple[int, ...]
) -> Float[Tensor, "*batch side kind value"]:
    """The right side in its mirror, or out of it: the x of vectors, at these features, change their sign."""
    sign = torch.ones(2, 1, values.shape[-1], dtype=values.dtype, device=values.device)
    sign[1, 0, list(x)] = -1
    return values * sign
