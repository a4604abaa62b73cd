"""What a training run is, in full: the entries of its YAML file.

Lengths of time are counted in optimiser steps. An unknown entry is an error; see `tripose.train.config_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from tripose.data.augment import Augmentation
from tripose.models.config import ModelConfig

NotNegative = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=0)]
Prefixes = tuple[str, ...]


class Entry(BaseModel):
    """A part of the configuration: cannot be changed, and takes no entry that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shards(Entry):
    """A stored data set, as ``tripose synth`` and ``tripose prepare`` write it.

    Attributes:
        folder: where it is.
        first: take only so many samples, from the beginning.
        cameras: take only what these cameras see, by name; None: all. A sample that none of them sees is an error.
    """

    kind: Literal["shards"]
    folder: Path
    first: PositiveInt | None = None
    cameras: tuple[str, ...] | None = None


class Synthetic(Entry):
    """A few people, rendered when they are first needed and then kept in memory; `tripose synth` stores more of them.

    Attributes:
        samples: how many.
        seed: another seed, other people.
        views: least and largest number of cameras.
        difficulty: what is in the way.
        poses: half of the pose prior.
    """

    kind: Literal["synthetic"]
    samples: PositiveInt
    seed: Annotated[int, Field(ge=0)]
    views: tuple[PositiveInt, PositiveInt] = (4, 4)
    difficulty: Literal["mixed", "clear", "occluded", "truncated"] = "mixed"
    poses: Literal["train", "test"] = "train"


Source = Annotated[Shards | Synthetic, Field(discriminator="kind")]
"""Where samples come from."""


class Data(Entry):
    """Samples, and what is done with them.

    Attributes:
        train: what is learned from; None: samples are given in Python.
        val: what is validated on; None: nothing is.
        views: least and largest number of views of a batch, drawn for every batch; None: all views. Not for validation.
        view_dropout: probability that a sample of a batch lacks a view that the batch has; the least number is kept.
        augmentation: how samples are varied in training; None: they are not.
        center_jitter_mm: cuboids stand so far from the true root at most, along each axis; in training.
        cache: whether the 2D network, which has to be frozen, looks at every image only once: what it says is kept in
            the run's folder, or in the folder given here, which runs may share. Images are not varied then.
        mirror: share of the samples that are mirrored, with `cache`; else `augmentation` does that.
        calibration_error_px: with `cache`, half of the samples get wrong cameras: what these project is off by a random
            shift, of a standard deviation between 0 and this, in pixels of the crop. The truth stays.
        workers: processes that load samples; 0: the training process does.
    """

    train: Source | None = None
    val: Source | None = None
    views: tuple[PositiveInt, PositiveInt] | None = None
    view_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augmentation: Augmentation | None = None
    center_jitter_mm: NotNegative = 0.0
    cache: bool | Path = False
    mirror: Annotated[float, Field(ge=0, le=1)] = 0.0
    calibration_error_px: NotNegative = 0.0
    workers: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _least_first(self) -> Data:
        if self.views is not None and self.views[0] > self.views[1]:
            raise ValueError(f"views is {list(self.views)}; the least number comes first")
        return self

    @model_validator(mode="after")
    def _images_or_not(self) -> Data:
        if self.cache and self.augmentation is not None:
            raise ValueError("augmentation varies images, which with cache are looked at only once; leave one out")
        if self.mirror and not self.cache:
            raise ValueError("mirror goes with cache; without it, use augmentation.mirror")
        if self.calibration_error_px and not self.cache:
            raise ValueError("calibration_error_px goes with cache: heatmaps are taught where joints are seen")
        return self


class Losses(Entry):
    """What is minimised: the weight of every loss; 0 leaves it out. See `tripose.models.losses`.

    Attributes:
        heatmap_cross_entropy: of heatmaps, against a Gaussian around the truth; nats.
        keypoints_px: smooth L1 of soft-argmax positions in the images; px.
        keypoints_m: robust distance of the method's final positions; m.
        algebraic_m: the same of the algebraic stage, where a method has stages.
        volumetric_m: the same of the volumetric stage.
        refined_m: the same of the second look at the heatmaps.
        coordinates_cm: mean absolute error of the coordinates, as published for the volumetric method; cm.
        smooth_mse_cm2: damped squared error of the coordinates, as published for the algebraic method; cm^2.
        volume_cross_entropy: of volumes, against the true position; nats.
        heatmap_sigma_px: no weight, but the standard deviation of the Gaussians of the first one.
    """

    heatmap_cross_entropy: NotNegative = 0.0
    keypoints_px: NotNegative = 0.0
    keypoints_m: NotNegative = 0.0
    algebraic_m: NotNegative = 0.0
    volumetric_m: NotNegative = 0.0
    refined_m: NotNegative = 0.0
    coordinates_cm: NotNegative = 0.0
    smooth_mse_cm2: NotNegative = 0.0
    volume_cross_entropy: NotNegative = 0.0
    heatmap_sigma_px: PositiveFloat = 6.0

    @model_validator(mode="after")
    def _some(self) -> Losses:
        if not self.weights():
            raise ValueError(f"no loss has a weight; there are {', '.join(self._weighted())}")
        return self

    def weights(self) -> dict[str, float]:
        """The losses that count."""
        given = {name: getattr(self, name) for name in self._weighted()}
        return {name: weight for name, weight in given.items() if weight > 0}

    def _weighted(self) -> list[str]:
        return [name for name in type(self).model_fields if name != "heatmap_sigma_px"]


class Group(Entry):
    """Parameters with their own learning rate.

    Attributes:
        parts: names of the model's parts, e.g. ``backbone.encoder.stages.4``.
        lr: the highest learning rate.
        weight_decay: None: that of the others.
    """

    parts: Prefixes
    lr: PositiveFloat
    weight_decay: NotNegative | None = None


class Optimiser(Entry):
    """AdamW with a linear warm-up and, after it, a cosine to zero or nothing.

    Attributes:
        lr: the highest learning rate of the parameters that no group names.
        weight_decay: of AdamW.
        groups: parts with other rates.
        frozen: names of parts that are not trained; they stay in evaluation mode.
        warmup_steps: length of the warm-up.
        schedule: what becomes of the learning rates after it; constant is what the paper did.
        clip_norm: largest norm of the gradient; None: any.
        ema_decay: of the averaged weights, which validation and the saved models use; None: no averaging. In step t
            (from 0) it is at most (1 + t) / (10 + t).
    """

    lr: PositiveFloat = 1e-3
    weight_decay: NotNegative = 0.0
    groups: tuple[Group, ...] = ()
    frozen: Prefixes = ()
    warmup_steps: Steps = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: PositiveFloat | None = 1.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.999


class Run(Entry):
    """What every training run has.

    Attributes:
        optimiser: how it learns.
        steps: how long.
        batch_size: samples of a batch, over all processes together.
        accumulate: batches of a step.
        precision: of the networks; geometry and losses keep theirs.
        validate_every: steps between validations; there is one at the end, too.
        checkpoint_every: steps that an interruption costs at most.
        log_every: steps between logged numbers.
        seed: of everything that is random.
    """

    optimiser: Optimiser = Optimiser()
    steps: PositiveInt
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    validate_every: PositiveInt = 1000
    checkpoint_every: PositiveInt = 500
    log_every: PositiveInt = 50
    seed: Annotated[int, Field(ge=0)] = 0


class TrainConfig(Run):
    """The training of a model that looks at images.

    Attributes:
        model: what is trained.
        init: "movenet" (the published Thunder), or folder or name of a model of the same skeleton: weights whose name
            and shape agree are taken, the others are random.
        fresh: names of parts that start from random weights all the same.
        data: what it is trained on.
        losses: what is minimised.
        images_every: steps between logged pictures at least, which come with validations; 0: none.
    """

    model: Annotated[ModelConfig, Field(discriminator="method")]
    init: Literal["movenet"] | Path | None = None
    fresh: Prefixes = ()
    data: Data
    losses: Losses
    images_every: Steps = 1000

    @model_validator(mode="after")
    def _can_mirror(self) -> TrainConfig:
        if self.data.mirror and (self.model.method == "volumetric" or self.model.legacy_alignment):
            raise ValueError(
                "data.mirror needs heatmaps with their cells in the middle: no volumetric, no legacy model"
            )
        return self
