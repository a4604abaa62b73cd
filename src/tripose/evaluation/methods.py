"""What can be evaluated: a model as it is, or classical triangulation of what its 2D network sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry import triangulate as classical
from tripose.geometry.heatmaps import cell_weights
from tripose.models.algebraic import read_points
from tripose.models.config import Algebraic, Evidence, Volumetric
from tripose.models.fusing import fused_positions
from tripose.models.fusion_joints import is_body
from tripose.models.placing import Place
from tripose.models.weights import Model
from tripose.skeleton import Skeleton
from tripose.triangulation import Method as Kind
from tripose.triangulation import shipped_fusion

# Localisation error, in parts of the crop's side, that is usual in crops of one person: three times as much, 15 px of
# 256, is a gross error. (The default of `triangulate`, 1 %, is meant for whole images.)
_USUAL_ERROR = 0.02


Encoded = tuple[Tensor, ...]
"""What is known of every view, [batch view ...]."""


@dataclass(frozen=True)
class Method:
    """Something that turns encoded views into positions.

    Attributes:
        name: in tables; no two methods have the same.
        model: whose 2D network encodes the views.
        look: from what the network gives, and the image size in px, to what `decode` needs of every view. Done once for
            all choices of views, and for all methods that have the same one.
        decode: of some views with their cameras, the image size, and (mm, world) the place of the person to positions
            in mm; NaN where it finds none.
        needs_center: whether `decode` has to be told where the person is. It then gets the root of what the first
            method found in the same views, and never the truth.
    """

    name: str
    model: Model
    look: Callable[[Encoded, tuple[int, int]], Encoded]
    decode: Callable[[Encoded, Cameras, tuple[int, int], Float[Tensor, "batch 3"] | None], Tensor]
    needs_center: bool = False

    @property
    def skeleton(self) -> Skeleton:
        """The joints that it finds."""
        return self.model.config.joints


def learned(name: str, model: Model, place: Place | None = None) -> Method:
    """A model as it is.

    Args:
        name: in tables.
        model: any.
        place: for a model whose cuboid stands where its first stage sees the person, which a single view does not tell;
            None: from one view it then finds nothing.
    """

    def decode(
        encoded: Encoded, cameras: Cameras, image_size_px: tuple[int, int], center_mm: Float[Tensor, "batch 3"] | None
    ) -> Float[Tensor, "batch joint 3"]:
        if isinstance(model.config, Evidence) and len(cameras) == 1:
            if place is None:
                return encoded[0].new_full((len(encoded[0]), len(model.config.joints), 3), torch.nan)
            center_mm = place(encoded, cameras, image_size_px)
        return model.decode(encoded, cameras, None, image_size_px, center_mm)["keypoints_mm"]

    return Method(name, model, as_encoded, decode, needs_center=isinstance(model.config, Volumetric))


def as_encoded(encoded: Encoded, image_size_px: tuple[int, int]) -> Encoded:
    """The `look` of methods that need all that the network gives."""
    return encoded


def baselines(kinds: Sequence[Kind], model: Model) -> list[Method]:
    """Triangulation of the points that the algebraic method would use.

    `dlt` and `ransac` know the points alone, as published; `irls` weighs them by the height of their peaks, the best
    here that does not learn. `fusion` takes these for scores; it is left out where the joints are no human body's.

    Where fewer than two views agree, the robust kinds leave a joint out; here the DLT of all views answers then, so
    that means are over the same joints. (The published RANSAC always answers, too: a pair agrees with itself.)

    Raises:
        TriposeError: a model without heatmaps that are probabilities.
    """
    config = model.config.algebraic if isinstance(model.config, Evidence) else model.config
    if not isinstance(config, Algebraic):
        raise TriposeError(
            f"{' and '.join(kinds)} need the heatmaps of an algebraic model or one that starts with it; this is a "
            f"{config.method} model"
        )

    def look(encoded: Encoded, image_size_px: tuple[int, int]) -> Encoded:
        return seen_points(encoded[0], config, image_size_px)

    joints = config.joints
    chosen = [kind for kind in kinds if kind != "fusion" or is_body(joints.joints)]
    return [Method(kind, model, look, partial(_triangulate, kind, joints)) for kind in chosen]


def _triangulate(
    kind: Kind,
    skeleton: Skeleton,
    seen: Encoded,
    cameras: Cameras,
    image_size_px: tuple[int, int],
    center_mm: Float[Tensor, "batch 3"] | None,
) -> Float[Tensor, "batch joint 3"]:
    points_px, peak = seen
    weight = peak if kind in ("irls", "fusion") else torch.ones_like(peak)
    scale_px = _USUAL_ERROR * image_size_px[0]
    return answered(kind, cameras, points_px, weight, skeleton, scale_px)


def answered(
    kind: Kind,
    cameras: Cameras,
    points_px: Float[Tensor | np.ndarray, "batch view joint 2"],
    weight: Float[Tensor | np.ndarray, "batch view joint"],
    skeleton: Skeleton,
    scale_px: float | None = None,
) -> Float[Tensor, "batch joint 3"]:
    """Positions, mm, by fusion or a classical method; by the DLT of all views where that leaves a joint out.

    Args:
        kind: which.
        cameras: of the views.
        points_px: in them.
        weight: of the points.
        skeleton: the joints.
        scale_px: see `tripose.geometry.triangulate`.
    """
    answer = partial(classical.triangulate, cameras, points_px, weight, scale_px=scale_px, covariance=False)
    if kind == "fusion":
        found = fused_positions(shipped_fusion(), cameras, points_px, weight, skeleton.joints)
    else:
        found = answer(method=kind).position_mm
    return found if kind == "dlt" else torch.where(found.isnan(), answer(method="dlt").position_mm, found)


def seen_points(
    heatmaps: Float[Tensor, "batch view joint rows columns"], config: Algebraic, image_size_px: tuple[int, int]
) -> tuple[Float[Tensor, "batch view joint 2"], Float[Tensor, "batch view joint"]]:
    """Where an algebraic model sees the joints, px, and the share of the heatmap in its highest cell."""
    weights = cell_weights(heatmaps, 2, relu=not config.softmax)
    _, points_px = read_points(weights, config, image_size_px)
    return points_px, weights.amax((-2, -1)) / weights.sum((-2, -1)).clamp(min=1e-9)
