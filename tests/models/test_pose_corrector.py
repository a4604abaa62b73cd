"""The correction of a pose: what it is before training, that it does not depend on axes, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch

from people import body_mm
from reference.pose_corrector import corrected
from tripose.geometry.volume import place_cuboid
from tripose.models.pose_corrector import PoseCorrector
from tripose.skeleton import COCO17

UPRIGHT = torch.eye(3).double()[None]


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = PoseCorrector(COCO17).eval()
    torch.nn.init.normal_(net.last.weight, std=0.1)
    return net


def poses(number=2, seed=0):
    """Positions of some people, what two other stages said about them, and certainties."""
    random = torch.Generator().manual_seed(seed)
    true = body_mm(number)
    found, *others = (true + s * torch.randn(true.shape, generator=random).double() for s in (20.0, 30.0, 300.0))
    others[0][0, 3] = torch.nan
    certainty = torch.randn(number, len(COCO17), 2, generator=random)
    return found, others, certainty, torch.tensor([4, 2])[:number]


def test_it_equals_its_twin(net):
    found, others, certainty, views = poses()
    with torch.no_grad():
        fast = net(found, others, certainty, views, UPRIGHT.expand(2, 3, 3))
        turns = [k * math.pi / 4 for k in range(8)]
        slow = [corrected(net, found[i], [o[i] for o in others], certainty[i], int(views[i]), turns) for i in range(2)]
    assert (fast - torch.stack(slow)).abs().max() < 1e-3
    assert (fast - found).norm(dim=-1).mean() > 1.0


def test_before_training_nothing_changes():
    found, others, certainty, views = poses()
    with torch.no_grad():
        same = PoseCorrector(COCO17)(found, others, certainty, views, UPRIGHT.expand(2, 3, 3))
    torch.testing.assert_close(same, found)


@pytest.mark.parametrize("up", ["z", "-y", "x"])
def test_the_axes_of_the_world_do_not_matter(net, up):
    found, others, certainty, views = poses()
    world = place_cuboid(torch.zeros(1, 3), 1.0, 2, up="z", world_up=up, yaw_rad=torch.tensor([math.pi / 2])).turn
    shift = torch.tensor([3000.0, -200.0, 50.0]).double()
    there = [x @ world[0].T + shift for x in (found, *others)]
    with torch.no_grad():
        here = net(found, others, certainty, views, UPRIGHT.expand(2, 3, 3))
        turned = net(there[0], there[1:], certainty, views, world.expand(2, 3, 3))
    assert (here @ world[0].T + shift - turned).abs().max() < 0.01


def test_it_learns_that_limbs_have_their_length():
    """Noise on one body in random places: a step for each joint that all others agree on."""
    torch.manual_seed(0)
    net = PoseCorrector(COCO17)
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3)
    true = body_mm(32)

    def noisy():
        place = 1000 * torch.randn(32, 1, 3).double()
        found = true + place + 40 * torch.randn_like(true)
        return found, [found, found], torch.zeros(32, len(COCO17), 2), torch.full((32,), 4), true + place

    for _ in range(200):
        *given, truth = noisy()
        loss = (net(*given, UPRIGHT.expand(32, 3, 3)) - truth).norm(dim=-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    with torch.no_grad():
        *given, truth = noisy()
        before, after = given[0], net(*given, UPRIGHT.expand(32, 3, 3))
    assert (after - truth).norm(dim=-1).mean() < 0.75 * (before - truth).norm(dim=-1).mean()
    assert net.training is False
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
