"""The pose corrector, one person and one turn at a time."""

import math

import torch


def corrected(net, keypoints_mm, others_mm, certainty, views, turns_rad):
    """Positions of one person (z up), averaged over the turns about the up-axis; arguments as in the module."""
    found = keypoints_mm / 1000
    middle = found[net.middle].mean(0)
    steps = []
    for angle in turns_rad:
        cos, sin = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
        told = [turn @ (joint - middle) for joint in found]
        for other in others_mm:
            for there, here in zip(other / 1000, found, strict=True):
                apart = torch.zeros(3).double() if bool(there.isnan().any()) else (there - here).clamp(-1, 1)
                told.append(4 * turn @ apart)
        x = torch.cat([*told, certainty.flatten(), torch.tensor([math.log2(views) - 2])]).float()
        hidden = net.first(x)
        for norm, widen, activation, narrow in net.blocks:
            hidden = hidden + narrow(activation(widen(norm(hidden))))
        step = net.last(net.norm(hidden)).double() / 10
        steps.append(torch.stack([turn.T @ s for s in step.split(3)]))
    return keypoints_mm + 1000 * torch.stack(steps).mean(0)
