"""Augmentation: a sample as other cameras, other light and other obstacles could have given it.

What moves pixels moves the crop's camera as well (`tripose.data.views`), so 2D and 3D truth stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from tripose.data import photometric
from tripose.data.batch import Sample
from tripose.data.views import mirror, reframe
from tripose.errors import TriposeError
from tripose.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How strongly samples are varied; all zero leaves them as they are.

    Mirroring is one decision for the whole sample, everything else is decided for each view.

    Attributes:
        mirror: share of samples that are mirrored.
        shift: how far the content moves at most, in parts of the crop's side.
        zoom: by which part it grows or shrinks at most.
        roll_deg: how far cameras are turned about their axis at most.
        tumble: share of views that are turned by any angle, as of cameras that are mounted on their side.
        truncate: share of views that show a part of the body only.
        colour: strength of the changes of brightness, contrast, gamma, white balance and saturation, 0..1.
        grey: share of views without colour.
        occlude: share of views with obstacles in front.
        blur: share of views that are out of focus, moving, or of low resolution.
        noise: largest standard deviation of the sensor noise, in parts of white; half of the views have some.
        compress: share of views that went through a lossy codec.
    """

    # Read by pydantic when a configuration comes from a file: an unknown entry is an error.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    mirror: float = 0.5
    shift: float = 0.08
    zoom: float = 0.25
    roll_deg: float = 12.0
    tumble: float = 0.03
    truncate: float = 0.1
    colour: float = 0.3
    grey: float = 0.05
    occlude: float = 0.25
    blur: float = 0.25
    noise: float = 0.04
    compress: float = 0.25

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            TriposeError: naming the entry and its value.
        """
        for name, most in {
            **dict.fromkeys((f.name for f in fields(self)), 1.0),
            "zoom": 0.9,
            "roll_deg": 180.0,
        }.items():
            if not 0 <= getattr(self, name) <= most:
                raise TriposeError(f"augmentation: {name} is {getattr(self, name)}; it goes from 0 to {most:g}")


def augment(sample: Sample, rng: np.random.Generator, config: Augmentation, skeleton: Skeleton | None = None) -> Sample:
    """Vary a sample; the same generator state gives the same result.

    Args:
        sample: with pinhole cameras, as of crops.
        rng: decides.
        config: how strongly.
        skeleton: of the keypoints; says which of them a mirror exchanges. None: nothing is mirrored.

    Returns:
        A new sample with as many views. Joints that have left an image or are covered are no longer visible.
    """
    if skeleton is not None and rng.random() < config.mirror:
        sample = mirror(sample, skeleton)
    sample = _move_cameras(sample, rng, config)
    spoilt = [_spoil(image, rng, config) for image in sample.images]
    visible = sample.visible
    if visible is not None:
        visible = visible & ~_lost(sample, [lost for _, lost in spoilt])
    return replace(sample, images=np.stack([image for image, _ in spoilt]), visible=visible)


def _move_cameras(sample: Sample, rng: np.random.Generator, config: Augmentation) -> Sample:
    views, side_px = len(sample.images), sample.images.shape[1]
    roll = np.where(
        rng.random(views) < config.tumble, rng.uniform(-180, 180, views), rng.uniform(-1, 1, views) * config.roll_deg
    )
    zoom = 1 + rng.uniform(-config.zoom, config.zoom, views)
    shift = rng.uniform(-config.shift, config.shift, (views, 2))
    # Half of the truncations enlarge a corner, as a box around a part of the body would; the others are black borders.
    closer = rng.random(views) < config.truncate / 2
    zoom = np.where(closer, rng.uniform(1.4, 2.0, views), zoom)
    # So far the enlarged image can move before its border shows.
    room = (zoom[:, None] - 1) / 2
    shift = np.where(closer[:, None], rng.uniform(-1, 1, (views, 2)) * room, shift)
    if not (roll.any() or shift.any() or (zoom != 1).any()):
        return sample
    return reframe(sample, np.radians(roll), zoom, shift * side_px)


def _spoil(
    image: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator, config: Augmentation
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"] | None]:
    """From the scene to the file: obstacles, light, lens, sensor, codec. Also which pixels show the scene no more."""
    lost = None
    if rng.random() < config.occlude:
        image, lost = photometric.put_in_front(image, rng)
    if config.colour:
        image = photometric.recolour(image, rng, config.colour)
    if rng.random() < config.grey:
        image = photometric.grey(image)
    if rng.random() < config.blur:
        image = photometric.blur(image, rng)
    if rng.random() < 0.5 and config.noise:
        image = photometric.add_noise(image, rng, config.noise * rng.random())
    if rng.random() < config.truncate / 2:
        image, outside = photometric.end_of_frame(image, rng)
        lost = outside if lost is None else lost | outside
    if rng.random() < config.compress:
        image = photometric.compress(image, rng)
    return image, lost


def _lost(sample: Sample, masks: list[Bool[np.ndarray, "height width"] | None]) -> Bool[np.ndarray, "view joint"]:
    """Which joints lie on lost pixels."""
    lost = np.zeros((len(masks), len(sample.keypoints_mm)), bool)
    points = sample.cameras.project(torch.from_numpy(sample.keypoints_mm))[0].numpy()
    for view, mask in enumerate(masks):
        if mask is not None:
            column, row = np.clip(np.rint(np.nan_to_num(points[view])), 0, np.array(mask.shape[::-1]) - 1).astype(int).T
            lost[view] = mask[row, column]
    return lost
