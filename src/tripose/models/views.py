"""What every method does with images, and what every method returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.geometry.volume import Cuboid
from tripose.models.config import ImageNetwork

# Images that go through the 2D network together in evaluation: memory then does not grow with the views.
_TOGETHER = 4


class ModelOutput(TypedDict):
    """What every method returns; positions are NaN where the views do not determine them."""

    keypoints_mm: Float[Tensor, "batch joint 3"]
    confidence: Float[Tensor, "batch view joint"]
    keypoints_px: Float[Tensor, "batch view joint 2"]
    heatmaps: Float[Tensor, "batch view joint rows columns"] | None  # logits, with the multiplier
    volumes: Float[Tensor, "batch joint voxel voxel voxel"] | None  # logits, with the multiplier
    cuboid: Cuboid | None  # where the volumes are


def normalise(images: Float[Tensor, "image 3 height width"], config: ImageNetwork) -> Tensor:
    """RGB in 0..1 to what the network was trained on."""
    if config.channels == "bgr":
        images = images.flip(1)
    return (images - images.new_tensor(config.mean)[:, None, None]) / images.new_tensor(config.std)[:, None, None]


def encode_views(
    encode: Callable[[Tensor], Sequence[Tensor]],
    images: Float[Tensor, "batch view 3 height width"],
    view_valid: Bool[Tensor, "batch view"] | None,
    *,
    training: bool,
) -> list[Tensor]:
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
        return [r.unflatten(0, images.shape[:2]) for r in results]
    return [r.new_zeros(*view_valid.shape, *r.shape[1:]).masked_scatter(_like(view_valid, r), r) for r in results]


def crop_projections(
    cameras: Cameras, images: Float[Tensor, "batch view 3 height width"], view_valid: Bool[Tensor, "batch view"] | None
) -> Float[Tensor, "batch view 3 4"]:
    """Projection matrices of the cameras of crops, float64, one rig per sample; zero for views that do not exist.

    Raises:
        ValueError: a lens with distortion (crops are pinhole cameras, see `tripose.geometry.crops`), or another number
            of cameras than of images.
    """
    if set(cameras.lens) != {"pinhole"}:
        raise ValueError("the models take crops, which are pinhole cameras; these cameras have distortion")
    P = cameras.to(torch.float64).P.to(images.device)
    size = images.shape[:2]
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


def _like(mask: Tensor, result: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *[1] * (result.ndim - 1)).expand(*mask.shape, *result.shape[1:])
