"""What all methods have in common: images go in, are encoded one by one, and are decoded together with the cameras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tripose.cameras import Cameras
from tripose.geometry.heatmaps import size_of
from tripose.geometry.volume import Cuboid
from tripose.models.config import ImageNetwork

# Images that go through the 2D network together in evaluation: memory then does not grow with the views.
_TOGETHER = 4


class Stages(NamedTuple):
    """Where a method of several stages saw the joints on its way to `ModelOutput.keypoints_mm`."""

    algebraic_mm: Float[Tensor, "batch joint 3"]
    volumetric_mm: Float[Tensor, "batch joint 3"]
    refined_mm: Float[Tensor, "batch joint 3"]


class ModelOutput(TypedDict):
    """What every method returns; positions are NaN where the views do not determine them."""

    keypoints_mm: Float[Tensor, "batch joint 3"]
    confidence: Float[Tensor, "batch view joint"]
    keypoints_px: Float[Tensor, "batch view joint 2"]
    heatmaps: Float[Tensor, "batch view joint rows columns"] | None  # logits, with the multiplier
    volumes: Float[Tensor, "batch joint voxel voxel voxel"] | None  # logits, with the multiplier
    cuboid: Cuboid | None  # where the volumes are
    stages: Stages | None


class MultiViewModel(nn.Module, ABC):
    """A method: `encode_views`, where all networks for images are, and then `decode`, which knows the cameras.

    What the first gives may be kept, and given to the second any number of times. It is a tuple of tensors
    [batch view ...].
    """

    def forward(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        cameras: Cameras,
        view_valid: Bool[Tensor, "batch view"] | None = None,
        center_mm: Float[Tensor, "batch 3"] | None = None,
        *,
        yaw_rad: Float[Tensor, " batch"] | None = None,
    ) -> ModelOutput:
        """Estimate the joints.

        Args:
            images: crops, RGB in 0..1.
            cameras: as in `decode`, like the rest.
            view_valid: views that exist; None: all.
            center_mm: centre of the cuboid.
            yaw_rad: turn of the cuboid.
        """
        encoded = self.encode_views(images, view_valid)
        return self.decode(encoded, cameras, view_valid, size_of(images), center_mm, yaw_rad=yaw_rad)

    def encode_views(
        self, images: Float[Tensor, "batch view 3 height width"], view_valid: Bool[Tensor, "batch view"] | None = None
    ) -> tuple[Tensor, ...]:
        """What the 2D network says about every image, for `decode`; zero for views that do not exist."""
        return run_on_views(self.encode, images, view_valid, training=self.training)

    @abstractmethod
    def encode(self, images: Float[Tensor, "image 3 height width"]) -> tuple[Tensor, ...]:
        """What the 2D network says about images, [image ...]."""

    @abstractmethod
    def decode(
        self,
        encoded: tuple[Tensor, ...],
        cameras: Cameras,
        view_valid: Bool[Tensor, "batch view"] | None,
        image_size_px: tuple[int, int],
        center_mm: Float[Tensor, "batch 3"] | None = None,
        *,
        yaw_rad: Float[Tensor, " batch"] | None = None,
    ) -> ModelOutput:
        """From encoded views to positions.

        Args:
            encoded: as `encode_views` gives it, in any floating-point type.
            cameras: of the crops (pinhole), with or without a batch axis.
            view_valid: views that exist; None: all.
            image_size_px: width and height of the crops.
            center_mm: for methods with a cuboid: where it stands.
            yaw_rad: for methods with a cuboid: its turn about the up-axis; None: drawn at random in training, else 0.
        """


def normalise(images: Float[Tensor, "image 3 height width"], config: ImageNetwork) -> Tensor:
    """RGB in 0..1 to what the network was trained on."""
    if config.channels == "bgr":
        images = images.flip(1)
    if config.backbone == "movenet":
        return images
    return (images - images.new_tensor(config.mean)[:, None, None]) / images.new_tensor(config.std)[:, None, None]


def run_on_views(
    encode: Callable[[Tensor], Sequence[Tensor]],
    images: Float[Tensor, "batch view 3 height width"],
    view_valid: Bool[Tensor, "batch view"] | None,
    *,
    training: bool,
) -> tuple[Tensor, ...]:
    """Run the per-image part of a model on the views that exist; results of the others are zero.

    Args:
        encode: images [image 3 height width] to tensors [image ...].
        images: what is in missing views (NaN included) reaches nothing, not even batch statistics.
        view_valid: None: all.
        training: whether batch statistics are taken, for which all images have to go together.

    Raises:
        ValueError: sides that the 2D network cannot halve five times, images that are not floating-point numbers, or a
            mask that is not boolean.
    """
    if images.shape[-1] % 32 or images.shape[-2] % 32:
        raise ValueError(
            f"images are {images.shape[-1]} x {images.shape[-2]} px; both sides have to be multiples of 32"
        )
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floating-point numbers, RGB in 0..1")
    if view_valid is not None and view_valid.dtype != torch.bool:
        raise ValueError(f"view_valid is {view_valid.dtype}; expected booleans")
    given = images.flatten(0, 1) if view_valid is None else images[view_valid]
    if training or torch.is_grad_enabled() or len(given) <= _TOGETHER:
        parts = [encode(given)]
    else:
        parts = [encode(some) for some in given.split(_TOGETHER)]
    results = [torch.cat(r) if len(r) > 1 else r[0] for r in zip(*parts, strict=True)]
    if view_valid is None:
        return tuple(r.unflatten(0, images.shape[:2]) for r in results)
    return tuple(r.new_zeros(*view_valid.shape, *r.shape[1:]).masked_scatter(_like(view_valid, r), r) for r in results)


def crop_projections(
    cameras: Cameras, views: Float[Tensor, "batch view *rest"], view_valid: Bool[Tensor, "batch view"] | None
) -> Float[Tensor, "batch view 3 4"]:
    """Projection matrices of the cameras of crops, float64, one rig per sample; zero for views that do not exist.

    Args:
        cameras: of the crops, with or without a batch axis.
        views: the images, or what was encoded from them: how many there are, and on which device.
        view_valid: None: all.

    Raises:
        ValueError: a lens with distortion (crops are pinhole cameras, see `tripose.geometry.crops`), or another number
            of cameras than of images.
    """
    if set(cameras.lens) != {"pinhole"}:
        raise ValueError("the models take crops, which are pinhole cameras; these cameras have distortion")
    P = cameras.to(torch.float64).P.to(views.device)
    size = views.shape[:2]
    if P.shape[:-2] not in (size, size[1:]):
        raise ValueError(f"cameras are {list(P.shape[:-2])}; images are {list(size)} (batch, view)")
    P = P.expand(*size, 3, 4)
    return P if view_valid is None else torch.where(view_valid[..., None, None], P, 0.0)


def without_missing(cameras: Cameras, view_valid: Bool[Tensor, "batch view"] | None) -> Cameras:
    """The cameras, with harmless numbers in place of those of views that do not exist."""
    if view_valid is None:
        return cameras
    shown, one = view_valid[..., None, None], torch.eye(3).to(cameras.K)
    return replace(
        cameras,
        K=torch.where(shown, cameras.K, one),
        R=torch.where(shown, cameras.R, one),
        t=torch.where(shown[..., 0], cameras.t, 0.0),
        distortion=cameras.distortion.expand(*view_valid.shape, -1),
        size_px=cameras.size_px.expand(*view_valid.shape, -1),
    )


def look(
    keypoints_mm: Float[Tensor, "batch joint 3"], P: Float[Tensor, "batch view 3 4"], image_size_px: tuple[int, int]
) -> tuple[Float[Tensor, "batch view joint 2"], Bool[Tensor, "batch view joint"]]:
    """Where the joints are in the images (NaN behind a camera), and which of them lie inside."""
    projected = keypoints_mm[:, None] @ P[..., :3].mT + P[..., None, :, 3]
    depth = projected[..., 2:]
    in_front = depth > 0
    points_px = torch.where(in_front, projected[..., :2] / torch.where(in_front, depth, 1.0), torch.nan)
    inside = (points_px > -0.5) & (points_px < points_px.new_tensor(image_size_px) - 0.5)
    return points_px, inside.all(-1)


def shown(encoded: Tensor, view_valid: Bool[Tensor, "batch view"] | None) -> Tensor:
    """Encoded views in float32 at least, with zeros in place of those that do not exist."""
    precise = encoded.to(torch.promote_types(encoded.dtype, torch.float32))
    if view_valid is None:
        return precise
    return torch.where(view_valid.reshape(*view_valid.shape, *[1] * (encoded.ndim - 2)), precise, 0.0)


def _like(mask: Tensor, result: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *[1] * (result.ndim - 1)).expand(*mask.shape, *result.shape[1:])
