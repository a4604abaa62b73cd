"""The layers of the fusion network: attention among joints that knows sides, and among views that knows no order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Tokens = Float[Tensor, "*batch side kind channel"]


class SidedAttention(nn.Module):
    """Attention among the joints of a body.

    A joint asks the joints of its own side and those of the other side, which answer with other keys and values. So
    the layer commutes with exchanging the sides: what it says of a mirrored person is mirrored.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.ask = nn.Linear(channels, channels)
        self.answer = nn.Linear(channels, 4 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tokens) -> Tokens:
        """Tokens plus what they learned from each other."""
        y = self.norm(x)
        own, other = self.answer(y).chunk(2, -1)
        (own_left, own_right), (other_left, other_right) = own.unbind(-3), other.unbind(-3)
        answers = torch.cat([own_left, other_right, own_right, other_left], -2).unflatten(-2, (2, -1))
        keys, values = answers.chunk(2, -1)
        result: Tensor = x + self.out(attend(self.ask(y), keys, values, self.heads))
        return result


class ViewPooling(nn.Module):
    """What the views of a joint have in common, told to each of them, in any order; views without a person say nothing.

    Attention in its place takes four times as long.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.say = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(2 * channels, channels)

    def forward(
        self, x: Float[Tensor, "batch view side kind channel"], valid: Bool[Tensor, "batch view"]
    ) -> Float[Tensor, "batch view side kind channel"]:
        """Tokens plus what they learned from each other."""
        result: Tensor = x + self.out(pooled(F.gelu(self.say(self.norm(x))), valid))[:, None]
        return result


class Mixer(nn.Module):
    """Two layers for every token on its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.first = nn.Linear(channels, 2 * channels)
        self.second = nn.Linear(2 * channels, channels)

    def forward(self, x: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch channel"]:
        """Tokens plus what is concluded from each."""
        result: Tensor = x + self.second(F.gelu(self.first(self.norm(x))))
        return result


def pooled(
    x: Float[Tensor, "batch view side kind channel"], valid: Bool[Tensor, "batch view"]
) -> Float[Tensor, "batch side kind channel"]:
    """The mean of the first half of the channels over valid views, and the largest of the others."""
    kept = valid[:, :, None, None, None]
    mean, most = x.chunk(2, -1)
    mean = (mean * kept).sum(1) / kept.sum(1).clamp(min=1)
    return torch.cat([mean, torch.where(kept, most, -10.0).amax(1)], -1)


def attend(
    ask: Float[Tensor, "*batch query channel"],
    keys: Float[Tensor, "*batch key channel"],
    values: Float[Tensor, "*batch key channel"],
    heads: int,
) -> Float[Tensor, "*batch query channel"]:
    """Multi-head attention, written out: for a dozen keys the fused kernels of PyTorch are slower."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in (ask, keys, values))
    score = (q @ k.mT) * (q.shape[-1] ** -0.5)
    found: Tensor = (score.softmax(-1) @ v).transpose(-3, -2).flatten(-2)
    return found
