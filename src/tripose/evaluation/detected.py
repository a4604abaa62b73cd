"""Classical triangulation of detections that a data set holds, by the number of cameras: no images, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.evaluation.choices import Choice, chosen_views
from tripose.evaluation.methods import answered
from tripose.evaluation.predictions import Predictions, merge
from tripose.geometry.triangulate import Method


def evaluate_detected(
    scenes: Sequence[Scene],
    methods: Sequence[Method],
    choices: Sequence[Choice] = ("all",),
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Predictions:
    """Positions from the detections of scenes, from each choice of their cameras; the truth is only copied.

    Rows are counted through all scenes, which are the groups. Where fewer than two views agree, the robust methods
    leave a joint out; here the DLT of all views answers then, so that means are over the same joints.

    Args:
        scenes: with detections and truth.
        methods: which.
        choices: of cameras.
        progress: called with the number of scenes that are done, and of all.

    Raises:
        TriposeError: no method, a scene without detections, or no scene that has as many cameras as are asked for.
    """
    if not methods:
        raise TriposeError("there is no method to evaluate: --classical dlt,ransac,irls")
    parts, first = list[Predictions](), 0
    for number, scene in enumerate(scenes):
        for views in chosen_views(choices, scene.cameras.names):
            if len(views) < 2:
                raise TriposeError("1 camera is chosen; triangulation needs at least 2")
            for method in methods:
                parts.append(_predictions(scene, method, views, first))
        first += len(scene.frame)
        progress(number + 1, len(scenes))
    if not parts:
        most = max((len(s.cameras) for s in scenes), default=0)
        raise TriposeError(f"no scene has as many cameras as are asked for; the largest rig has {most}")
    return merge(*parts)


def _predictions(scene: Scene, method: Method, views: tuple[int, ...], first: int) -> Predictions:
    rows, given = len(scene.frame), np.zeros((len(scene.frame), len(scene.cameras)), dtype=bool)
    given[:, list(views)] = True
    return Predictions(
        row=first + np.arange(rows),
        method=np.full(rows, method),
        views=given,
        keypoints_mm=_triangulated(scene, method, views),
        truth_mm=scene.keypoints_mm,
        group=np.full(rows, scene.name),
        skeleton=scene.skeleton,
    )


def _triangulated(scene: Scene, method: Method, views: tuple[int, ...]) -> Float[np.ndarray, "row joint 3"]:
    if scene.detections is None:
        raise TriposeError(
            f"scene {scene.name!r} has no detections; models look at the crops that are beside its index"
        )
    some = list(views)
    rig = scene.cameras.select([scene.cameras.names[v] for v in some])
    points, confidence = scene.detections.points_px[:, some], scene.detections.confidence[:, some]
    position: Float[np.ndarray, "row joint 3"] = answered(method, rig, points, confidence).numpy()
    return position
