"""A small training run as a program, for what needs a process: being killed, and sharing work with others."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import torch

from blobs import Blobs
from tripose.train.config import TrainConfig
from tripose.train.run import train

CONFIG = {
    "model": {
        "method": "algebraic",
        "skeleton": "coco17",
        "backbone": "movenet",
        "image_size_px": [64, 64],
        "confidences": "none",
        "multiplier": 1.0,
    },
    "init": "movenet",
    "data": {"views": [2, 3], "augmentation": {}},
    "losses": {"heatmap_cross_entropy": 1.0, "keypoints_px": 0.1},
    "optimiser": {"lr": 1e-3, "frozen": ["backbone.encoder"]},
    "steps": 7,
    "batch_size": 2,
    "validate_every": 4,
    "checkpoint_every": 2,
    "log_every": 1,
    "images_every": 3,
}
SETS = (Blobs(5), Blobs(5, seed=1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", type=json.loads, default={})
    parser.add_argument("--kill", default="never", help="the process kills itself when it is told this")
    given = parser.parse_args()
    torch.set_num_threads(1)

    def say(text: str) -> None:
        print(text, flush=True)
        if text.startswith(given.kill):
            os.kill(os.getpid(), signal.SIGKILL)

    config = TrainConfig.model_validate(CONFIG | given.set)
    train(config, given.folder, samples=SETS, say=say)


if __name__ == "__main__":
    main()
