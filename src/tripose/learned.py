"""Learned triangulation of a followed person: the crops of all views of a moment into a model, moment by moment."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tripose.cameras import Cameras
from tripose.geometry.crops import crop_person, person_box, to_crop, to_frame
from tripose.geometry.triangulate import assess
from tripose.models.algebraic import AlgebraicTriangulation
from tripose.models.config import Algebraic, Evidence, Volumetric
from tripose.models.evidence import EvidenceTriangulation
from tripose.models.inference import for_inference
from tripose.models.placing import Place
from tripose.models.second_opinion import add_keypoints, flip_test
from tripose.models.weights import Model
from tripose.pose import Pose2D, Pose3D
from tripose.recording import FrameSet
from tripose.skeleton import COCO17, HALPE26

# Side of a crop over the longer side of the box around the projected joints: synthetic people are cropped at 1.0 to 1.5
# times the box around all of the body, which ends above the eyes and below the ankles, that is, about 1.1 to 1.7 times
# this one. Of 1.15, 1.2, 1.3 and 1.4 the smaller give the steadier limbs on real recordings: more pixels on the body.
BOX_SCALE = 1.2


@dataclass(frozen=True)
class Estimate:
    """What a model says about the person in one moment; NaN where it says nothing.

    Attributes:
        index: of the frame.
        position_mm: joints, world frame.
        points_px: where it sees them, raw pixels.
        confidence: what each view has to say about each joint; a view that counts as much as the average has 1.
    """

    index: int
    position_mm: Float[np.ndarray, "joint 3"]
    points_px: Float[np.ndarray, "view joint 2"]
    confidence: Float[np.ndarray, "view joint"]


@dataclass(frozen=True)
class Person:
    """What is known of a person before a model looks.

    Attributes:
        boxes_px: squares around it, ideal pixels; NaN where a view does not show it.
        detected: its keypoints by a detector, in the same views and frames: further evidence for models whose heatmaps
            are probabilities and that know the detector's joints. None, or another model: nothing is made of it.
        centers_mm: where it is, for volumetric models, which have to be told; NaN where it is not known.
    """

    boxes_px: Float[np.ndarray, "time view 4"]
    detected: Pose2D | None = None
    centers_mm: Float[np.ndarray, "time 3"] | None = None


def estimate(
    frames: Iterator[FrameSet],
    cameras: Cameras,
    person: Person,
    model: Model,
    place: Place | None = None,
) -> Iterator[Estimate]:
    """Run a model on a person whose place in the images is known.

    Moments are worked on side by side, each on one thread: the networks are small, see `tripose.track.Detectors`.

    Args:
        frames: images of all views, in time order.
        cameras: their cameras.
        person: whom to look at.
        model: of any method.
        place: for a rig of one camera; None: a moment in which only one view shows the person has no result.
    """
    fast = for_inference(model)
    each = [cameras.select([name]) for name in cameras.names]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            coming: deque[Future[Estimate]] = deque()
            for frame in frames:
                coming.append(pool.submit(_estimate_one, frame, each, person, fast, place))
                if len(coming) > 2 * (os.cpu_count() or 1):
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
    finally:
        torch.set_num_threads(before)


def boxes_around(body_mm: Float[np.ndarray, "time joint 3"], cameras: Cameras) -> Float[np.ndarray, "time view 4"]:
    """Squares for `estimate` around a person whose joints are roughly known; NaN where it is lost or not in view."""
    each = [cameras.select([name]) for name in cameras.names]
    boxes = np.full((len(body_mm), len(each), 4), np.nan)
    for frame, joints in enumerate(body_mm):
        for view, camera in enumerate(each):
            box = person_box(camera, joints, BOX_SCALE) if np.isfinite(joints).any() else None
            if box is not None:
                boxes[frame, view] = box
    return boxes


def as_poses(estimates: list[Estimate], cameras: Cameras, model: Model, fps: float) -> Pose3D:
    """Estimates as a result, with the reprojection errors, agreeing views and covariances that all methods report."""
    position, points, confidence = (
        np.stack([getattr(e, part) for e in estimates])[:, None] for part in ("position_mm", "points_px", "confidence")
    )
    told = assess(cameras, torch.from_numpy(position), points, np.minimum(confidence, 1.0))
    assert told.covariance_mm2 is not None
    return Pose3D(
        position_mm=position,
        confidence=np.where(np.isfinite(position[..., 0]), told.confidence.numpy(), np.nan),
        skeleton=model.config.joints,
        fps=fps,
        persons=("person_0",),
        views=cameras.names,
        n_views=told.n_views.numpy(),
        reprojection_px=told.reprojection_px.movedim(1, 2).numpy(),
        covariance_mm2=told.covariance_mm2.numpy(),
        up=cameras.up,
    )


def _has_probabilities(model: Model) -> TypeGuard[AlgebraicTriangulation | EvidenceTriangulation]:
    """Whether the heatmaps were taught as probabilities."""
    config = model.config
    taught = isinstance(config, Evidence) or (isinstance(config, Algebraic) and config.confidences == "evidence")
    return taught and not config.legacy_alignment


def _means_the_same(model: Model, detected: Pose2D) -> bool:
    """Whether the model's joints begin with just those that the detector means."""
    joints, known = model.config.joints, detected.skeleton.joints
    return joints in (HALPE26, COCO17) and joints.joints[: len(known)] == known


def _estimate_one(
    frame: FrameSet,
    each: list[Cameras],
    person: Person,
    model: Model,
    place: Place | None,
) -> Estimate:
    joints, side_px = len(model.config.joints), model.config.image_size_px[0]
    points, weight = np.full((len(each), joints, 2), np.nan), np.zeros((len(each), joints))
    nothing = Estimate(frame.index, np.full((joints, 3), np.nan), points, weight)
    crops: dict[int, tuple[UInt8[np.ndarray, "side side 3"], Cameras]] = {}
    for view, (image, camera, box) in enumerate(zip(frame.images, each, person.boxes_px[frame.index], strict=True)):
        if image is not None and np.isfinite(box).all():
            crops[view] = crop_person(image, camera, box, side_px)
    if len(crops) < (2 if place is None else 1):
        return nothing
    images = torch.from_numpy(np.stack([crop for crop, _ in crops.values()])).permute(0, 3, 1, 2)[None].float() / 255
    rig = Cameras.join([camera for _, camera in crops.values()])
    with torch.inference_mode():
        if _has_probabilities(model):
            encoded = flip_test(model, images)
            if person.detected is not None and _means_the_same(model, person.detected):
                encoded = _with_keypoints(encoded, frame.index, crops, each, person.detected)
        else:
            encoded = model.encode_views(images)
        center_mm = None
        if isinstance(model.config, Volumetric):
            center_mm = _center(person, frame.index)
        elif len(crops) == 1 and place is not None:
            center_mm = place(encoded, rig, (side_px, side_px))
        if center_mm is not None and not center_mm.isfinite().all():
            return nothing
        output = model.decode(encoded, rig, None, (side_px, side_px), center_mm)
    share = output["confidence"][0].double().numpy()
    for row, (view, (_, crop)) in enumerate(crops.items()):
        points[view] = to_frame(output["keypoints_px"][0, row].double().numpy(), crop, each[view])
        weight[view] = share[row] / np.maximum(share.mean(0), 1e-9)
    return replace(nothing, position_mm=output["keypoints_mm"][0].double().numpy())


def _center(person: Person, index: int) -> Float[Tensor, "1 3"]:
    if person.centers_mm is None:
        raise ValueError("a volumetric model has to be told where the person is: give centers_mm")
    return torch.from_numpy(person.centers_mm[index : index + 1])


def _with_keypoints(
    encoded: tuple[Tensor, ...],
    index: int,
    crops: dict[int, tuple[UInt8[np.ndarray, "side side 3"], Cameras]],
    each: list[Cameras],
    detected: Pose2D,
) -> tuple[Tensor, ...]:
    heatmaps = encoded[0].clone()
    known, (side_px, *_) = len(detected.skeleton), next(iter(crops.values()))[0].shape
    points = [to_crop(detected.points_px[index, v, 0], crop, each[v]) for v, (_, crop) in crops.items()]
    confidence = detected.confidence[index, list(crops), 0]
    heatmaps[0, :, :known] = add_keypoints(heatmaps[0, :, :known], np.stack(points), confidence, (side_px, side_px))
    return heatmaps, *encoded[1:]
