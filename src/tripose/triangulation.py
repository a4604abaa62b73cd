"""Triangulation by any method: what geometry alone says, or the fusion network, which knows bodies."""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np
from jaxtyping import Num, Shaped
from torch import Tensor

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry import triangulate as classical
from tripose.geometry.triangulate import Triangulation
from tripose.models.fusing import fuse
from tripose.models.fusion import FusionTriangulation
from tripose.models.weights import load_fusion
from tripose.skeleton import Skeleton

Method = Literal["dlt", "ransac", "irls", "fusion"]
METHODS: tuple[Method, ...] = get_args(Method)
FUSION = "fusion-simulated"
"""The fusion model that ships with the package."""


@cache
def shipped_fusion() -> FusionTriangulation:
    """The fusion model that ships, read once."""
    return load_fusion(FUSION)


def triangulate(
    cameras: Cameras,
    points_px: Num[Tensor | np.ndarray, "*batch view joint 2"],
    confidence: Shaped[Tensor | np.ndarray, "*batch view joint"] | None = None,
    *,
    method: Method = "ransac",
    skeleton: Skeleton | None = None,
    model: FusionTriangulation | None = None,
    min_views: int = 2,
    scale_px: float | None = None,
    homogeneous: float = 1.0,
    covariance: bool = True,
) -> Triangulation:
    """Triangulate matched points.

    ``dlt``, ``ransac`` and ``irls`` know the points alone and are differentiable, see
    `tripose.geometry.triangulate.triangulate`, whose arguments these are. ``fusion`` knows human bodies and how
    detectors err, and says so where that decided, see `tripose.models.fusing.fuse`; it needs to know the joints.

    Args:
        cameras: the rig.
        points_px: raw (distorted) image positions; NaN where a view does not see the joint.
        confidence: weight of each observation, 0..1; 0 or NaN removes it. None: all ones.
        method: which.
        skeleton: what the joints are; of fusion only.
        model: of fusion; None: the one that ships with the package.
        min_views: smallest number of agreeing views that makes a result; not of fusion.
        scale_px: size of a usual localisation error.
        homogeneous: of dlt only.
        covariance: whether to estimate covariances; fusion always does.

    Raises:
        TriposeError: shapes that do not fit, an unknown method, or fusion without a skeleton or of no human body.
    """
    if method not in METHODS:
        raise TriposeError(f"no triangulation method is called {method!r}; known are {', '.join(METHODS)}")
    if method != "fusion":
        return classical.triangulate(
            cameras,
            points_px,
            confidence,
            method=method,
            min_views=min_views,
            scale_px=scale_px,
            homogeneous=homogeneous,
            covariance=covariance,
        )
    if skeleton is None:
        raise TriposeError("fusion has to know what the joints are: triangulate(..., skeleton=SKELETON)")
    return fuse(model or shipped_fusion(), cameras, points_px, confidence, skeleton.joints, scale_px=scale_px)
