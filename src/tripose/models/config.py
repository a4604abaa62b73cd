"""What a model is: the few numbers and choices that, with its weights, say what it computes.

Saved as ``config.json`` beside ``model.safetensors``; see `tripose.models.weights`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from tripose.cameras import Up
from tripose.errors import TriposeError
from tripose.geometry.volume import Aggregation
from tripose.skeleton import Skeleton, skeleton_named

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


Backbone = Literal["movenet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


# It halves the stride-32 map twice.
_LEAST_FOR_HEAD_PX = 128


@dataclass(frozen=True, kw_only=True)
class ImageNetwork:
    """What all methods share: the 2D network and what it eats.

    Attributes:
        skeleton: name of the joint set.
        backbone: a ResNet of the published system, or the small network that MoveNet Thunder is.
        image_size_px: width and height of the crops. MoveNet was made for 256.
        legacy_alignment: the pixel conventions of the published system, for its weights; see `tripose.geometry`.
        channels: order in which the network wants the colours. Callers always give RGB.
        mean: subtracted from images in 0..1, in the network's channel order; not for MoveNet, which scales by itself.
        std: divides them then.
    """

    # Read by pydantic when a configuration comes from a file: an unknown entry is an error.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    skeleton: str
    backbone: Backbone = "resnet50"
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
        for name in ("std", "multiplier", "voxels", "side_mm", "window_px"):
            value = getattr(self, name, None)
            if value is not None and not all(
                0 < v < math.inf for v in (value if isinstance(value, tuple) else (value,))
            ):
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
        confidences: what weighs the views, joint by joint: nothing, a head on the image features (published), or
            evidence: the shape of the heatmap and how well the views agree, see `tripose.models.confidence`.
        softmax: whether heatmaps are softmaxed; else rectified.
        multiplier: multiplies the heatmaps before.
        window_px: standard deviation of a Gaussian window around the soft-argmax, in which it is taken again; None: no
            window.
    """

    method: Literal["algebraic"] = "algebraic"
    confidences: Literal["none", "image", "evidence"] = "image"
    softmax: bool = True
    multiplier: float = 100.0
    window_px: float | None = None

    def __post_init__(self) -> None:
        """As in `ImageNetwork`."""
        super().__post_init__()
        if self.confidences == "evidence" and not self.softmax:
            raise TriposeError("confidences are 'evidence', which only softmaxed heatmaps are; softmax has to be true")
        if self.confidences == "image" and min(self.image_size_px) < _LEAST_FOR_HEAD_PX:
            raise TriposeError(
                f"image_size_px is {list(self.image_size_px)}; the head for confidences needs {_LEAST_FOR_HEAD_PX} at "
                "least, or confidences 'none'"
            )


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


@dataclass(frozen=True, kw_only=True)
class Evidence(ImageNetwork):
    """The heatmaps' own evidence in a cuboid, a light 3D network that corrects it, and a second look at the heatmaps.

    Attributes:
        window_px: of the algebraic stage, see `Algebraic`.
        voxels: along each axis.
        side_mm: side of the cuboid.
        up: the axis of the training data that points up; in another world the cuboid is turned accordingly.
    """

    method: Literal["evidence"] = "evidence"
    window_px: float | None = 24.0
    voxels: int = 32
    side_mm: float = 2400.0
    up: Up | None = "z"

    def __post_init__(self) -> None:
        """As in `ImageNetwork`."""
        super().__post_init__()
        if self.legacy_alignment:
            raise TriposeError("the evidence method has no published weights; legacy_alignment has to be false")

    @property
    def algebraic(self) -> Algebraic:
        """The stage that the model starts with."""
        shared = {f.name: getattr(self, f.name) for f in fields(ImageNetwork)}
        return Algebraic(**shared, confidences="evidence", multiplier=1.0, window_px=self.window_px)


ModelConfig = Ransac | Algebraic | Volumetric | Evidence
