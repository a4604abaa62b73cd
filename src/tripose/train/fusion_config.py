"""What the training of a fusion model is, in full: the entries of its YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from tripose.data.detections.noise import TRAINING, Noise
from tripose.models.fusion import Fusion
from tripose.train.config import Entry, Run


class Simulated(Entry):
    """Random people, and a detector that errs.

    Attributes:
        people: how many bodies are learned from; they are made once and kept.
        val_people: how many others, of the other half of the pose prior, validate and calibrate.
        seed: another seed, other people.
        keep: folder in which bodies are kept, which runs may share.
        noise: how bad the detector is; see `tripose.data.detections.noise.Noise`, and ``tripose fit-detector``.
    """

    people: PositiveInt
    val_people: PositiveInt = 1500
    seed: Annotated[int, Field(ge=0)] = 1
    keep: Path = Path("data/bodies")
    noise: Noise = TRAINING


class FusionConfig(Run):
    """The training of a model that looks at keypoints.

    Attributes:
        model: what is trained.
        data: what it is trained on.
    """

    model: Fusion
    data: Simulated
