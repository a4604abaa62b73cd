"""A rig of calibrated cameras: one immutable, batched, differentiable object.

Conventions: world lengths in mm; ``x_camera = R x_world + t`` with OpenCV axes (x right, y down, z forward);
the centre of the top-left pixel is (0, 0), so scaling an image by ``s`` maps ``x`` to ``(x + 0.5) s - 0.5``.
Lens distortion acts on normalised coordinates, so it survives every crop and resize unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tripose.errors import TriposeError
from tripose.lens import LENS_COEFFICIENTS, Lens, distort, to_normalised, to_pixels, undistort

Up = Literal["x", "y", "z", "-x", "-y", "-z"]
TO_Z_UP: dict[Up, tuple[tuple[int, int, int], ...]] = {
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "x": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "-x": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
}
"""Per up-axis the rows of the rotation that brings it to z."""


@dataclass(frozen=True)
class Cameras:
    """A rig of cameras; every change returns a new object.

    Attributes:
        K: intrinsic matrices, px.
        R: rotations, world to camera.
        t: translations, mm; ``x_camera = R x_world + t``.
        distortion: coefficients in OpenCV's order ``k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y``, padded with
            zeros, for an "opencv" lens; ``k1 k2 k3 k4`` (padded) for a "fisheye" lens; ignored for "pinhole".
        size_px: image width and height.
        names: one per view; views are matched by name, never by order.
        lens: the lens model of each view.
        up: which world axis points up, or None when the calibration does not say.
    """

    K: Float[Tensor, "*batch view 3 3"]
    R: Float[Tensor, "*batch view 3 3"]
    t: Float[Tensor, "*batch view 3"]
    distortion: Float[Tensor, "*batch view 14"]
    size_px: Int[Tensor, "*batch view 2"]
    names: tuple[str, ...]
    lens: tuple[Lens, ...]
    up: Up | None = None

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        K: object,
        R: object,
        t_mm: object,
        size_px: object,
        distortion: Sequence[Sequence[float]] | None = None,
        fisheye: Sequence[bool] | None = None,
        up: Up | None = None,
    ) -> Cameras:
        """Build and validate a rig from plain arrays, as every calibration reader does.

        Args:
            names: one per view, unique.
            K: [view, 3, 3] px.
            R: [view, 3, 3] world to camera.
            t_mm: [view, 3] mm.
            size_px: [view, 2] width, height.
            distortion: per view 0, 2, 4, 5, 8, 12 or 14 coefficients (4 for fisheye); None means no distortion.
            fisheye: per view, whether the coefficients belong to OpenCV's fisheye model.
            up: world axis that points up, if known.

        Raises:
            TriposeError: an illegal number of coefficients, a value that is not finite, a rotation that is not one
                (mirrored, transposed or scaled), or an intrinsic matrix that is not one; the camera is named.
        """
        if not names:
            raise TriposeError("the calibration holds no camera")
        coefficients = [list(d) for d in distortion] if distortion is not None else [[] for _ in names]
        is_fisheye = list(fisheye) if fisheye is not None else [False] * len(names)
        padded: list[list[float]] = []
        lenses: list[Lens] = []
        for name, row, fish in zip(names, coefficients, is_fisheye, strict=True):
            legal = (0, 4) if fish else LENS_COEFFICIENTS
            if len(row) not in legal:
                raise TriposeError(
                    f"camera {name!r} has {len(row)} distortion coefficients; "
                    f"the {'fisheye' if fish else 'OpenCV'} model takes {', '.join(map(str, legal))}"
                )
            padded.append(row + [0.0] * (14 - len(row)))
            lenses.append("fisheye" if fish else "opencv" if any(row) else "pinhole")
        cameras = cls(
            K=_float64(K),
            R=_float64(R),
            t=_float64(t_mm).reshape(len(names), -1),
            distortion=_float64(padded).reshape(len(names), 14),
            size_px=torch.as_tensor(np.asarray(size_px), dtype=torch.int64).reshape(len(names), 2),
            names=tuple(names),
            lens=tuple(lenses),
            up=up,
        )
        cameras.validate()
        return cameras

    def validate(self) -> None:
        """Check that every camera is a possible camera.

        Raises:
            TriposeError: naming the camera, the value and the likely cause.
        """
        view = len(self.names)
        doubles = sorted({n for n in self.names if self.names.count(n) > 1})
        if doubles:
            raise TriposeError(f"the calibration names the camera {doubles[0]!r} more than once")
        for field, shape in (("K", (view, 3, 3)), ("R", (view, 3, 3)), ("t", (view, 3))):
            if tuple(getattr(self, field).shape) != shape:
                raise TriposeError(
                    f"calibration: {field} has shape {tuple(getattr(self, field).shape)}, expected {shape}"
                    " (one pose per camera; per-frame board poses of a calibration run are not camera poses)"
                )
        for i, name in enumerate(self.names):
            _validate_one(name, self.K[i], self.R[i], self.t[i], self.distortion[i], self.size_px[i])

    def __len__(self) -> int:
        return len(self.names)

    @property
    def P(self) -> Float[Tensor, "*batch view 3 4"]:
        """Projection matrices ``K [R | t]`` of the ideal pinhole (no distortion), px and mm."""
        return self.K @ torch.cat([self.R, self.t[..., None]], -1)

    @property
    def centers_mm(self) -> Float[Tensor, "*batch view 3"]:
        """Camera centres in the world frame, mm."""
        rotated: Tensor = self.R.mT @ self.t[..., None]
        return -rotated[..., 0]

    def project(
        self, points_mm: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch view point 2"], Bool[Tensor, "*batch view point"]]:
        """Project world points into every view, through the lens.

        Returns:
            Pixel positions (finite only in front of a camera; NaN at or behind its plane), and whether the point is
            in front. Points outside the image are projected all the same.
        """
        known = points_mm.isfinite().all(-1, keepdim=True)
        in_camera = torch.where(known, points_mm, 0.0)[..., None, :, :] @ self.R.mT + self.t[..., None, :]
        depth = in_camera[..., 2]
        in_front = (depth > 1e-6) & known[..., None, :, 0]
        # NaN comes last: on the way it would turn the zero gradients of masked points into NaN.
        ideal = in_camera[..., :2] / torch.where(in_front, depth, 1.0)[..., None]
        image = self.distort(to_pixels(torch.where(in_front[..., None], ideal, 0.0), self.K))
        return torch.where(in_front[..., None], image, torch.nan), in_front

    def distort(self, points_px: Float[Tensor, "*batch view point 2"]) -> Float[Tensor, "*batch view point 2"]:
        """Map pixels of the ideal pinhole camera (same K) to pixels of the real image."""
        return self._through_lens(points_px, distort)

    def undistort(self, points_px: Float[Tensor, "*batch view point 2"]) -> Float[Tensor, "*batch view point 2"]:
        """Map pixels of the real image to pixels of the ideal pinhole camera with the same K.

        NaN where the lens model cannot be inverted (far outside the calibrated image, see `tripose.lens`).
        """
        return self._through_lens(points_px, undistort)

    def rays(self, points_px: Float[Tensor, "*batch view point 2"]) -> Float[Tensor, "*batch view point 3"]:
        """Unit directions, world frame, of the rays from `centers_mm` through pixels of the real images."""
        pinhole = self.undistort(points_px)
        known = pinhole.isfinite().all(-1, keepdim=True)
        ideal = to_normalised(torch.where(known, pinhole, self.K[..., None, :2, 2]), self.K)
        direction = torch.cat([ideal, torch.ones_like(ideal[..., :1])], -1) @ self.R
        return torch.where(known, direction / direction.norm(dim=-1, keepdim=True), torch.nan)

    def undistorted(self) -> Cameras:
        """The same rig with ideal pinhole lenses."""
        pinhole: Lens = "pinhole"
        return replace(self, distortion=torch.zeros_like(self.distortion), lens=(pinhole,) * len(self))

    def crop(self, box_px: Float[Tensor, "*batch view 4"]) -> Cameras:
        """The cameras of image crops.

        Args:
            box_px: left, top, right, bottom of each crop as pixel indices, right and bottom exclusive; an integer
                ``left`` makes column ``left`` the new column 0.
        """
        K = self.K.clone()
        K[..., 0, 2] = K[..., 0, 2] - box_px[..., 0]
        K[..., 1, 2] = K[..., 1, 2] - box_px[..., 1]
        size = (box_px[..., 2:] - box_px[..., :2]).round().to(torch.int64)
        return replace(self, K=K, size_px=size)

    def resize(self, size_px: Int[Tensor, "*batch view 2"]) -> Cameras:
        """The cameras of resized images; pixel ``x`` moves to ``(x + 0.5) s - 0.5``.

        Args:
            size_px: new width and height of each view.
        """
        scale = size_px.to(self.K) / self.size_px.to(self.K)
        K = self.K.clone()
        K[..., :2, :] = K[..., :2, :] * scale[..., None]
        K[..., :2, 2] = (self.K[..., :2, 2] + 0.5) * scale - 0.5
        return replace(self, K=K, size_px=size_px)

    @classmethod
    def join(cls, rigs: Sequence[Cameras]) -> Cameras:
        """The views of several rigs of one world as one rig."""
        return replace(
            rigs[0],
            K=torch.cat([r.K for r in rigs], -3),
            R=torch.cat([r.R for r in rigs], -3),
            t=torch.cat([r.t for r in rigs], -2),
            distortion=torch.cat([r.distortion for r in rigs], -2),
            size_px=torch.cat([r.size_px for r in rigs], -2),
            names=tuple(name for r in rigs for name in r.names),
            lens=tuple(lens for r in rigs for lens in r.lens),
        )

    def select(self, names: Sequence[str]) -> Cameras:
        """The views with these names, in this order.

        Raises:
            TriposeError: a name that the rig does not have.
        """
        unknown = [n for n in names if n not in self.names]
        if unknown:
            raise TriposeError(f"no camera named {unknown[0]!r}; the calibration has {', '.join(self.names)}")
        index = torch.tensor([self.names.index(n) for n in names], dtype=torch.int64, device=self.K.device)
        return replace(
            self,
            K=self.K.index_select(-3, index),
            R=self.R.index_select(-3, index),
            t=self.t.index_select(-2, index),
            distortion=self.distortion.index_select(-2, index),
            size_px=self.size_px.index_select(-2, index),
            names=tuple(names),
            lens=tuple(self.lens[self.names.index(n)] for n in names),
        )

    def rename(self, names: Sequence[str]) -> Cameras:
        """The same rig under other names, in the same order."""
        return replace(self, names=tuple(names))

    def to(self, target: torch.device | torch.dtype | str) -> Cameras:
        """The rig on another device or in another floating-point type."""
        return replace(
            self,
            K=self.K.to(target),
            R=self.R.to(target),
            t=self.t.to(target),
            distortion=self.distortion.to(target),
            size_px=self.size_px if isinstance(target, torch.dtype) else self.size_px.to(target),
        )

    def _through_lens(self, points_px: Tensor, bend: Callable[[Tensor, Tensor, Lens], Tensor]) -> Tensor:
        """Bend the points of all views that share a lens model together."""
        models = set(self.lens) - {"pinhole"}
        if not models:
            return points_px
        result = points_px
        for lens in sorted(models):
            index = torch.tensor([i for i, model in enumerate(self.lens) if model == lens], device=points_px.device)
            K, own = self.K.index_select(-3, index), points_px.index_select(-3, index)
            known = own.isfinite().all(-1, keepdim=True)
            points = to_normalised(torch.where(known, own, K[..., None, :2, 2]), K)
            bent = bend(points, self.distortion.index_select(-2, index), lens)
            known = known & bent.isfinite().all(-1, keepdim=True)
            # NaN comes last, as in `project`.
            bent = torch.where(known, to_pixels(torch.where(known, bent, 0.0), K), torch.nan)
            result = result.index_copy(-3, index, bent)
        return result


def _float64(value: object) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.float64)
    return torch.as_tensor(np.asarray(value, dtype=np.float64))


def _validate_one(name: str, K: Tensor, R: Tensor, t: Tensor, distortion: Tensor, size_px: Tensor) -> None:
    for what, value in (("K", K), ("R", R), ("t", t), ("distortion", distortion)):
        if not bool(torch.isfinite(value).all()):
            raise TriposeError(f"calibration of camera {name!r}: {what} holds a value that is not finite")
    if not bool((K[2] == K.new_tensor([0.0, 0.0, 1.0])).all()):
        hint = " (it looks transposed, as in MATLAB files)" if bool((K[:2, 2] == 0).all()) else ""
        raise TriposeError(
            f"calibration of camera {name!r}: the last row of K is {K[2].tolist()}, expected [0, 0, 1]{hint}"
        )
    if float(K[0, 0]) <= 0 or float(K[1, 1]) <= 0:
        raise TriposeError(
            f"calibration of camera {name!r}: the focal lengths are {float(K[0, 0]):g} and {float(K[1, 1]):g} px;"
            " they must be positive"
        )
    if bool((size_px <= 0).any()):
        raise TriposeError(f"calibration of camera {name!r}: the image size is {size_px.tolist()} px")
    off_by = float((R @ R.T - torch.eye(3, dtype=R.dtype)).abs().max())
    determinant = float(torch.linalg.det(R))
    if off_by > 1e-2:
        raise TriposeError(
            f"calibration of camera {name!r}: R is not a rotation (R R^T differs from the identity by {off_by:.2g})"
        )
    if determinant < 0:
        raise TriposeError(
            f"calibration of camera {name!r}: det(R) = {determinant:.3f}, a mirrored (left-handed) frame; "
            "one world axis was probably flipped by hand"
        )
