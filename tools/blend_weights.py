"""Blend a fine-tuned 2D network with the released MoveNet Thunder that it started from.

    python tools/blend_weights.py runs/keypoints-synthetic/best 0.6 runs/keypoints-blended

Fine-tuning on rendered people forgets some of what photographs taught. A network whose weights lie between the two
keeps more of both than either has (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import copy
from pathlib import Path

import typer

from tripose.models.movenet_weights import start_from_thunder
from tripose.models.weights import load_model, save_model


def main(model: Path, share: float, out: Path) -> None:
    """Write the model with `share` of its own weights, and the rest of those it started from."""
    tuned = load_model(model)
    released = copy.deepcopy(tuned)
    start_from_thunder(released.backbone, released.config.joints)
    start, end = released.state_dict(), tuned.state_dict()
    tuned.load_state_dict({name: (1 - share) * start[name] + share * end[name] for name in end})
    save_model(tuned, out)


if __name__ == "__main__":
    typer.run(main)
