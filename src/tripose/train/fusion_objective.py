"""What the fusion network learns: to be right, to know how right it is, and to do no harm."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tripose.geometry.ray_fusion import inverse_3x3
from tripose.models.fusion import Answers
from tripose.models.fusion_certainty import FREEDOM, distances
from tripose.models.fusion_stage import Fused

# An error of this size costs one; beyond the second, about two metres, it costs no more.
_UNIT_M, _FAR_M = 0.05, 2.0
_FIRST, _LIKELIHOOD, _HARM = 0.3, 0.25, 0.5


def objective(
    answers: Answers, truth: Float[Tensor, "batch joint 3"], score: Float[Tensor, "batch view joint"]
) -> Tensor:
    """The loss of a batch; lengths in metres.

    Args:
        answers: of the network.
        truth: all joints are known.
        score: of the observations. Where three views see a joint, being worse than the start costs extra.
    """
    total = truth.new_zeros((), dtype=torch.float64)
    told = ((score.amax(-1) > 0).sum(1) > 1)[:, None].expand(truth.shape[:2])
    before = _bounded((answers.start - truth).norm(dim=-1))
    many = (score > 0).sum(1) > 2
    for share, said in ((_FIRST, answers.first), (1.0, answers.second)):
        error = (said.position - truth).clamp(-20, 20)
        cost = _bounded((error.square().sum(-1) + 1e-8).sqrt())
        harm = (cost - before).clamp(min=0) * many
        loss = cost + _HARM * harm + _LIKELIHOOD * surprise(said, truth)
        total = total + share * torch.where(told, loss, 0.0).sum() / told.sum()
    return total


def surprise(said: Fused, truth: Float[Tensor, "batch joint 3"]) -> Float[Tensor, "batch joint"]:
    """Negative log likelihood of the truth under a Student t distribution, but for a constant."""
    error = (said.position - truth).clamp(-20, 20)
    distance = distances(error, said.covariance)
    _, determinant = inverse_3x3(said.covariance)
    return (FREEDOM + 3) / 2 * torch.log1p(distance / FREEDOM) + 0.5 * determinant.clamp(min=1e-30).log()


def _bounded(error: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch joint"]:
    return error / (1 + error / _FAR_M) / _UNIT_M
