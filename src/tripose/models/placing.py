"""Where the cuboid stands when a single camera sees the person: rays do not meet, so floor or height have to tell."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry.heatmaps import cell_weights
from tripose.geometry.standing import pelvis_by_height, pelvis_on_floor
from tripose.models.algebraic import read_points
from tripose.models.config import Evidence

Place = Callable[[tuple[Tensor, ...], Cameras, tuple[int, int]], Float[Tensor, "batch 3"]]
"""Where a person is (mm, world), told from one encoded view, its camera and the image size; NaN where nobody knows."""


def standing(config: Evidence, *, floor_mm: float = 0.0, height_mm: float | None = None) -> Place:
    """Places of people who stand.

    Args:
        config: of the model whose heatmaps are looked at.
        floor_mm: height of the floor.
        height_mm: of the person; None: it is the floor that tells.

    Returns:
        A function that raises a TriposeError for cameras that do not say which way is up.
    """

    def place(
        encoded: tuple[Tensor, ...], cameras: Cameras, image_size_px: tuple[int, int]
    ) -> Float[Tensor, "batch 3"]:
        if cameras.up is None:
            raise TriposeError(
                "one camera alone needs to know which way is up, and its calibration does not say: write it into a "
                "tripose calibration (up: z)"
            )
        _, points_px = read_points(cell_weights(encoded[0][:, 0], 2, relu=False), config.algebraic, image_size_px)
        if height_mm is not None:
            return pelvis_by_height(points_px, cameras, config.joints, cameras.up, height_mm)
        return pelvis_on_floor(points_px, cameras, config.joints, cameras.up, floor_mm)

    return place
