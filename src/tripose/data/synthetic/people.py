"""Random people as data: one person, one moment, the crops of all cameras of a rig, and the truth.

Sample `index` of a seed is always the same, whatever was made before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from tripose.cameras import Cameras
from tripose.data.batch import Sample
from tripose.data.rendered import Rendered
from tripose.data.synthetic.bodies import BodyModel, load_bodies, random_shape
from tripose.data.synthetic.looks import random_clothes, random_light, random_material, random_walls
from tripose.data.synthetic.prior import sample_pose
from tripose.data.synthetic.rigs import Layout, random_rig
from tripose.data.synthetic.scene import Mesh, box, furnish, join, person, picture
from tripose.data.synthetic.sensor import compress, expose
from tripose.geometry.crops import crop_camera
from tripose.skeleton import Skeleton, skeleton_named

Difficulty = Literal["mixed", "clear", "occluded", "truncated"]
"""Anything; nothing in the way; things and people in the way; boxes that cut part of the person off as well."""
# A joint is hidden if the nearest surface is this far in front of it: joints lie inside of the body.
_DEPTH_IN_BODY_MM = 150.0
_OVERSAMPLING = 1.5
# Smallest and largest sides of what stands in the way.
_PLANK_MM = ((50, 120, 800), (120, 350, 2000))
_FURNITURE_MM = ((200, 200, 300), (600, 600, 1000))


@dataclass(frozen=True, kw_only=True)
class People:
    """Which random people.

    Attributes:
        seed: another seed, other people, rooms, rigs.
        views: smallest and largest number of cameras.
        difficulty: what is in the way.
        poses: the half of the pose prior; motion of "test" is in no training set.
        layout: of the rigs; None: any.
        distance_mm: smallest and largest distance of the cameras.
        image_size_px: side of the crops.
    """

    seed: int
    views: tuple[int, int] = (4, 4)
    difficulty: Difficulty = "mixed"
    poses: Literal["train", "test"] = "train"
    layout: Layout | None = None
    distance_mm: tuple[float, float] = (2300.0, 5500.0)
    image_size_px: int = 256


@dataclass(frozen=True)
class RandomPeople:
    """A data set that is rendered when it is read.

    Attributes:
        people: which.
        n: how many.
        skeleton_name: "halpe26" or "h36m17".
    """

    people: People
    n: int
    skeleton_name: str = "halpe26"

    @property
    def skeleton(self) -> Skeleton:
        """The joints of the truth."""
        return skeleton_named(self.skeleton_name)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.n:
            raise IndexError(index)
        return render(self.people, index).sample(self.skeleton_name)


def render(people: People, index: int) -> Rendered:
    """Make one sample; people of one seed, room and rig are the same at every difficulty.

    Raises:
        TriposeError: the package anny is not installed.
    """
    model = load_bodies()
    rng, accidents = (np.random.default_rng([people.seed, index, stream]) for stream in (0, 1))
    views = int(rng.integers(people.views[0], people.views[1] + 1))
    rig = random_rig(rng, views, layout=people.layout, distance_mm=people.distance_mm)
    truth, meshes = _somebody(model, rng, people.poses)
    room = _room_around(rig, rng)
    walls, light, pattern = random_walls(rng), random_light(rng), int(rng.integers(1000))
    crowded = people.difficulty != "clear" and (people.difficulty != "mixed" or accidents.random() < 0.65)
    things = [meshes]
    if crowded:
        things += _in_the_way(model, accidents, rig, meshes, truth["halpe26"], people)
    decoration = _along_the_walls(np.random.default_rng([people.seed, index, 2]), rig, room)
    scene = furnish(join(things), room, walls, light, pattern, decoration)
    cut = people.difficulty == "truncated" or (people.difficulty == "mixed" and accidents.random() < 0.15)
    jpeg, crops, seen = [], [], []
    for view in range(views):
        camera = _crop(rig.select([rig.names[view]]), meshes, rng, accidents if cut else None, people.image_size_px)
        image, surface = picture(scene, camera, _OVERSAMPLING)
        jpeg.append(compress(expose(image, rng), rng))
        crops.append(camera)
        seen.append({name: _visible(camera, joints, surface.depth_mm) for name, joints in truth.items()})
    visible = {name: np.stack([s[name] for s in seen]) for name in truth}
    return Rendered(tuple(jpeg), Cameras.join(crops), truth, visible, people.difficulty)


def _somebody(
    model: BodyModel, rng: np.random.Generator, poses: Literal["train", "test"]
) -> tuple[dict[str, Float[np.ndarray, "joint 3"]], Mesh]:
    """A dressed person at the world's origin, turned anyhow."""
    body = model(sample_pose(rng, poses)[None], [random_shape(rng)])[0]
    materials, thickness = random_clothes(rng)
    yaw, at = rng.uniform(0, 2 * np.pi), rng.normal(0, 150, 2)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    truth = {name: joints @ turn.T + [*at, 0] for name, joints in body.keypoints_mm.items()}
    return truth, person(model, body, materials, thickness, yaw, tuple(at))


def _room_around(rig: Cameras, rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A room that all cameras stand in."""
    reach = rig.centers_mm.abs().amax(0).numpy() + 200.0
    return np.array(
        [
            max(reach[0], 2000) + rng.uniform(0, 2500),
            max(reach[1], 2000) + rng.uniform(0, 2500),
            max(reach[2], 2400) + rng.uniform(0, 1500),
        ]
    )


def _along_the_walls(rng: np.random.Generator, rig: Cameras, room_mm: Float[np.ndarray, " 3"]) -> list[Mesh]:
    """Cupboards, doors, pictures: behind every camera, so never in the way."""
    reach = rig.centers_mm.abs().amax(0).numpy() + 50.0
    things = []
    for _ in range(int(rng.integers(0, 10))):
        axis, side = int(rng.integers(2)), rng.choice([-1, 1])
        size = rng.uniform((200, 20, 300), (1500, min(500, room_mm[axis] - reach[axis]), 2200))
        where = np.zeros(3)
        where[axis] = side * (room_mm[axis] - size[1] / 2)
        where[1 - axis] = rng.uniform(-1, 1) * room_mm[1 - axis]
        where[2] = size[2] / 2 if rng.random() < 0.6 else rng.uniform(300, room_mm[2])
        turn = np.eye(3) if axis == 1 else np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        things.append(box(where, size, turn, random_material(rng, (5.0, 40.0))))
    return things


def _in_the_way(
    model: BodyModel,
    rng: np.random.Generator,
    rig: Cameras,
    who: Mesh,
    joints: Float[np.ndarray, "joint 3"],
    people: People,
) -> list[Mesh]:
    """Planks and boxes between cameras and joints, and sometimes a second person."""
    mixed, centres = people.difficulty == "mixed", rig.centers_mm.numpy()
    things = []
    for _ in range(int(rng.integers(1, 6 if mixed else 3))):
        camera = centres[rng.integers(len(centres))]
        plank = rng.random() < 0.4
        smallest, largest = _PLANK_MM if plank else _FURNITURE_MM
        size = rng.uniform(smallest, largest)
        joint = joints[rng.integers(len(joints))]
        towards = (camera - joint) / np.linalg.norm(camera - joint)
        across = np.array([-towards[1], towards[0], 0]) * rng.uniform(-200, 200)
        where = joint + towards * rng.uniform(550, 1300) + across + [0, 0, rng.uniform(-200, 200)]
        tilt = _tilted(rng, 1.2 if plank else 0.5)
        material = random_material(rng, (10.0, 60.0))
        if np.linalg.norm(who.vertices_mm[::20] - where, axis=1).min() > size.max() / 2:
            things.append(box(where, size, tilt, material))
    if rng.random() < (0.45 if mixed else 0.3):
        _, other = _somebody(model, rng, people.poses)
        camera = centres[rng.integers(len(centres))]
        angle = np.arctan2(camera[1], camera[0]) + rng.normal(0, 0.25)
        if rng.random() < 0.4:
            angle = rng.uniform(0, 2 * np.pi)
        shift = rng.uniform(750, 1200) * np.array([np.cos(angle), np.sin(angle), 0])
        at = np.array([*joints[:, :2].mean(0), 0]) - np.array([*other.vertices_mm[:, :2].mean(0), 0])
        things.append(replace(other, vertices_mm=other.vertices_mm + at + shift))
    return things


def _tilted(rng: np.random.Generator, most_rad: float) -> Float[np.ndarray, "3 3"]:
    from scipy.spatial.transform import Rotation

    axis = rng.normal(size=3)
    tilt = Rotation.from_rotvec(axis / np.linalg.norm(axis) * rng.uniform(0, most_rad))
    matrix: Float[np.ndarray, "3 3"] = (Rotation.from_rotvec([0, 0, rng.uniform(0, 2 * np.pi)]) * tilt).as_matrix()
    return matrix


def _crop(
    camera: Cameras, who: Mesh, rng: np.random.Generator, cut: np.random.Generator | None, side_px: int
) -> Cameras:
    """The camera of a crop around a person, loose as detectors' boxes are; `cut` takes part of the person away."""
    points, _ = camera.undistorted().project(torch.from_numpy(who.vertices_mm[::5]))
    low, high = points[0].numpy().min(0), points[0].numpy().max(0)
    side = (high - low).max() * rng.uniform(1.0, 1.5)
    centre = (low + high) / 2 + rng.normal(size=2) * 0.05 * (high - low).max()
    if cut is not None:
        side *= cut.uniform(0.55, 0.85)
        centre += cut.uniform(-0.25, 0.25, 2) * (high - low)
    return crop_camera(camera, np.concatenate([centre - side / 2, centre + side / 2]), side_px)


def _visible(
    camera: Cameras, joints_mm: Float[np.ndarray, "joint 3"], depth_mm: Float[np.ndarray, "rows columns"]
) -> Bool[np.ndarray, " joint"]:
    """Inside of the image, and nothing (their own body included) far in front of them."""
    points, in_front = (a[0].numpy() for a in camera.project(torch.from_numpy(joints_mm)))
    depth = joints_mm @ camera.R[0, 2].numpy() + camera.t[0, 2].numpy()
    scale = len(depth_mm) / int(camera.size_px[0, 0])
    cells = np.nan_to_num((points + 0.5) * scale - 0.5, nan=-9.0).round().astype(int)
    inside = in_front & ((cells >= 0) & (cells < len(depth_mm))).all(-1)
    cells = np.clip(cells, 0, len(depth_mm) - 1)
    visible: Bool[np.ndarray, " joint"] = inside & (depth - depth_mm[cells[:, 1], cells[:, 0]] < _DEPTH_IN_BODY_MM)
    return visible
