"""What a model is: the few numbers and choices that, with its weights, say what it computes.

Saved as ``config.json`` beside ``model.safetensors``; see `tripose.models.weights`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from tripose.cameras import Up
from tripose.errors import TriposeError
from tripose.geometry.volume import Aggregation
from tripose.skeleton import Skeleton, skeleton_named

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImageNetwork:
    """What all methods share: the 2D network and what it eats.

    Attributes:
        skeleton: name of the joint set.
        layers: of the ResNet: 18, 34, 50, 101 or 152.
        image_size_px: width and height of the crops.
        legacy_alignment: the pixel conventions of the published system, for its weights; see `tripose.geometry`.
        channels: order in which the network wants the colours. Callers always give RGB.
        mean: subtracted from images in 0..1, in the network's channel order.
        std: divides them then.
    """

    # Read by pydantic when a configuration comes from a file: an unknown entry is an error.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    skeleton: str
    layers: Literal[18, 34, 50, 101, 152] = 50
    image_size_px: tuple[int, int] = (384, 384)
    legacy_alignment: bool = False
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Refuse what no network could be built or run with.

        Raises:
            TriposeError: naming the entry and its value.
        """
        if any(side < 32 or side % 32 for side in self.image_size_px):
            raise TriposeError(f"image_size_px is {self.image_size_px}; both sides have to be multiples of 32")
        # A few are missing where they do not belong to the method.
        for name in ("std", "multiplier", "voxels", "side_mm"):
            value = getattr(self, name, 1.0)
            if not all(0 < v < math.inf for v in (value if isinstance(value, tuple) else (value,))):
                raise TriposeError(f"{name} is {value}; it has to be positive")

    @property
    def joints(self) -> Skeleton:
        """The joint set."""
        return skeleton_named(self.skeleton)


@dataclass(frozen=True, kw_only=True)
class Ransac(ImageNetwork):
    """Nothing learned after the 2D network.

    Attributes:
        refine: whether to minimise the reprojection error of the inliers (``direct_optimization``).
    """

    method: Literal["ransac"] = "ransac"
    refine: bool = True


@dataclass(frozen=True, kw_only=True)
class Algebraic(ImageNetwork):
    """Differentiable triangulation of soft-argmax positions.

    Attributes:
        confidences: whether a head weighs the views, joint by joint.
        softmax: whether heatmaps are softmaxed; else rectified.
        multiplier: multiplies the heatmaps before.
    """

    method: Literal["algebraic"] = "algebraic"
    confidences: bool = True
    softmax: bool = True
    multiplier: float = 100.0


@dataclass(frozen=True, kw_only=True)
class Volumetric(ImageNetwork):
    """Features unprojected into a cuboid, a 3D network, a 3D soft-argmax.

    Attributes:
        aggregation: of the views, in every voxel.
        net: the published 3D network, or the light one.
        voxels: along each axis.
        side_mm: side of the cuboid.
        softmax: whether volumes are softmaxed; else rectified.
        multiplier: multiplies the volumes before.
        up: the axis of the training data that points up; in another world the cuboid is turned accordingly.
    """

    method: Literal["volumetric"] = "volumetric"
    aggregation: Aggregation = "softmax"
    net: Literal["v2v", "light"] = "v2v"
    voxels: int = 64
    side_mm: float = 2500.0
    softmax: bool = True
    multiplier: float = 1.0
    up: Up | None = "z"


ModelConfig = Ransac | Algebraic | Volumetric
