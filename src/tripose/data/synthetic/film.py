"""A whole recording of one person that never was: what distorted cameras film, and where the joints truly were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from tripose.cameras import Cameras
from tripose.data.synthetic.bodies import Body, load_bodies, random_shape
from tripose.data.synthetic.looks import random_clothes, random_light, random_walls
from tripose.data.synthetic.prior_motion import Motion, sample_motion
from tripose.data.synthetic.rigs import random_rig
from tripose.data.synthetic.scene import furnish, person, picture
from tripose.data.synthetic.sensor import expose
from tripose.pose import Pose3D
from tripose.skeleton import HALPE26

# Bodies made together: the body model takes 1 ms each then, instead of 6 alone.
_TOGETHER = 32
# A pixel position outside of every image. Corners that a strong lens cannot have seen (9 % of the rigs have some) are
# black.
_NOWHERE = -1e5


@dataclass(frozen=True)
class Film:
    """A recording before it is written.

    Attributes:
        cameras: with distorted lenses.
        truth: HALPE-26.
        frames: per moment the images of all cameras.
    """

    cameras: Cameras
    truth: Pose3D
    frames: Iterator[tuple[UInt8[np.ndarray, "height width 3"], ...]]


def film(seed: int, n_frames: int, *, views: int = 4, fps: float = 25.0, size_px: tuple[int, int] = (960, 720)) -> Film:
    """A person of the pose prior's test half who moves about between cameras.

    Args:
        seed: another seed, another person, room, rig and motion.
        n_frames: length.
        views: number of cameras.
        fps: frames per second.
        size_px: width and height of the images.

    Raises:
        TriposeError: the package anny is not installed.
    """
    rng = np.random.default_rng([seed, 2])
    cameras = random_rig(rng, views, layout="ring", distance_mm=(3000.0, 4500.0), size_px=size_px, distorted=True)
    motion = sample_motion(rng, n_frames, fps, "test")
    shape = random_shape(rng)
    bodies: list[Body] = []
    for start in range(0, n_frames, _TOGETHER):
        some = motion.poses[start : start + _TOGETHER]
        bodies += load_bodies()(some, [shape] * len(some))
    truth = np.stack([_placed(body, motion, i) for i, body in enumerate(bodies)])
    poses = Pose3D(truth[:, None], np.ones((n_frames, 1, len(HALPE26))), HALPE26, fps, up="z")
    return Film(cameras, poses, _frames(bodies, motion, cameras, rng))


def _placed(body: Body, motion: Motion, frame: int) -> Float[np.ndarray, "joint 3"]:
    cos, sin = np.cos(motion.heading_rad[frame]), np.sin(motion.heading_rad[frame])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    joints: Float[np.ndarray, "joint 3"] = body.keypoints_mm["halpe26"] @ turn.T + [*motion.position_mm[frame], 0]
    return joints


def _frames(
    bodies: list[Body], motion: Motion, cameras: Cameras, rng: np.random.Generator
) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], ...]]:
    model = load_bodies()
    materials, thickness = random_clothes(rng)
    walls, light, pattern = random_walls(rng), random_light(rng), int(rng.integers(1000))
    reach = cameras.centers_mm.abs().amax(0).numpy() + 300.0
    room = np.array([*(reach[:2] + rng.uniform(0, 2000, 2)), max(reach[2], 2600.0) + 500.0])
    views = [_Lens(cameras.select([name])) for name in cameras.names]
    # A camera keeps its exposure for as long as it films.
    accidents = rng.integers(1 << 30, size=len(views))
    for i, body in enumerate(bodies):
        heading, (x, y) = float(motion.heading_rad[i]), motion.position_mm[i].tolist()
        scene = furnish(person(model, body, materials, thickness, heading, (x, y)), room, walls, light, pattern)
        yield tuple(
            expose(view.bend(picture(scene, view.ideal, 1.0)[0]), np.random.default_rng(accident))
            for view, accident in zip(views, accidents, strict=True)
        )


class _Lens:
    """A distorted camera: the ideal one that sees all of its image, and the map from the one to the other."""

    def __init__(self, camera: Cameras) -> None:
        width, height = camera.size_px[0].tolist()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        raw = torch.stack([columns, rows], -1).reshape(1, -1, 2).double()
        ideal = camera.undistort(raw)[0]
        low, high = ideal.nan_to_num(0).amin(0).floor() - 1, ideal.nan_to_num(0).amax(0).ceil() + 2
        self.ideal = camera.undistorted().crop(torch.cat([low, high])[None])
        self.x, self.y = (
            (ideal - low).nan_to_num(_NOWHERE).float().reshape(height, width, 2).permute(2, 0, 1).contiguous().numpy()
        )

    def bend(self, image: Float32[np.ndarray, "rows columns 3"]) -> Float32[np.ndarray, "height width 3"]:
        bent: Float32[np.ndarray, "height width 3"] = np.asarray(cv2.remap(image, self.x, self.y, cv2.INTER_LINEAR))
        return bent
