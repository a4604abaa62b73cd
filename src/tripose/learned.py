"""Learned triangulation of a followed person: the crops of all views of a moment into a model, moment by moment."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8

from tripose.cameras import Cameras
from tripose.geometry.crops import crop_person, person_box, to_frame
from tripose.geometry.triangulate import assess
from tripose.models.inference import for_inference
from tripose.models.weights import Model
from tripose.pose import Pose3D
from tripose.recording import FrameSet

# Side of a crop over the longer side of the box around the projected joints: synthetic people are cropped at 1.0 to 1.5
# times the box around all of the body, which ends above the eyes and below the ankles.
BOX_SCALE = 1.4


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


def estimate(
    frames: Iterator[FrameSet], cameras: Cameras, body_mm: Float[np.ndarray, "time any 3"], model: Model
) -> Iterator[Estimate]:
    """Run a model on a person whose place is known.

    Moments are worked on side by side, each on one thread: the networks are small, see `tripose.track.Detectors`.

    Args:
        frames: images of all views, in time order.
        cameras: their cameras.
        body_mm: some joints of the person in every frame, to cut crops around; NaN where it is lost.
        model: of any method.
    """
    fast = for_inference(model)
    each = [cameras.select([name]) for name in cameras.names]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            coming: deque[Future[Estimate]] = deque()
            for frame in frames:
                coming.append(pool.submit(_estimate_one, frame, each, body_mm[frame.index], fast))
                if len(coming) > 2 * (os.cpu_count() or 1):
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
    finally:
        torch.set_num_threads(before)


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


def _estimate_one(frame: FrameSet, each: list[Cameras], body_mm: Float[np.ndarray, "any 3"], model: Model) -> Estimate:
    joints = len(model.config.joints)
    points = np.full((len(each), joints, 2), np.nan)
    weight = np.zeros((len(each), joints))
    nothing = Estimate(frame.index, np.full((joints, 3), np.nan), points, weight)
    if not np.isfinite(body_mm).any():
        return nothing
    crops: dict[int, tuple[UInt8[np.ndarray, "side side 3"], Cameras]] = {}
    for view, (image, camera) in enumerate(zip(frame.images, each, strict=True)):
        box = None if image is None else person_box(camera, body_mm, BOX_SCALE)
        if image is not None and box is not None:
            crops[view] = crop_person(image, camera, box, model.config.image_size_px[0])
    if len(crops) < 2:
        return nothing
    images = torch.from_numpy(np.stack([crop for crop, _ in crops.values()])).permute(0, 3, 1, 2)[None].float() / 255
    rig = Cameras.join([camera for _, camera in crops.values()])
    with torch.inference_mode():
        output = model(images, rig)
    share = output["confidence"][0].double().numpy()
    for row, (view, (_, crop)) in enumerate(crops.items()):
        points[view] = to_frame(output["keypoints_px"][0, row].double().numpy(), crop, each[view])
        weight[view] = share[row] / np.maximum(share.mean(0), 1e-9)
    return replace(nothing, position_mm=output["keypoints_mm"][0].double().numpy())

