"""Triangulation of detections that a data set holds, by geometry or fusion models: no images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.evaluation.choices import Choice, chosen_views
from tripose.evaluation.methods import answered
from tripose.evaluation.predictions import Predictions, merge
from tripose.models.fusing import fused_positions
from tripose.models.fusion import FusionTriangulation
from tripose.models.fusion_joints import is_body
from tripose.skeleton import Skeleton
from tripose.triangulation import Method


def evaluate_detected(
    scenes: Sequence[Scene],
    methods: Sequence[Method],
    choices: Sequence[Choice] = ("all",),
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    *,
    models: Mapping[str, FusionTriangulation] | None = None,
) -> Predictions:
    """Positions from the detections of scenes, from each choice of their cameras; the truth is only copied.

    Rows are counted through all scenes, which are the groups. Where fewer than two views agree, the robust methods
    leave a joint out; here the DLT of all views answers then, so that means are over the same joints. Fusion answers
    also where only one view or none sees a joint of somebody: there its error counts, and DLT's is missing.

    Args:
        scenes: with detections and truth.
        methods: which; fusion is left out where the joints of a scene are no human body's.
        choices: of cameras.
        progress: called with the number of scenes that are done, and of all.
        models: name in the tables -> fusion model.

    Raises:
        TriposeError: no method, a scene without detections, or no scene that has as many cameras as are asked for.
    """
    bodies = all(is_body(scene.skeleton.joints) for scene in scenes)
    chosen = [method for method in methods if method != "fusion" or bodies]
    answers: dict[str, _Answer] = {method: partial(_triangulate, method) for method in chosen}
    if twice := sorted(answers.keys() & (models or {}).keys()):
        raise TriposeError(f"a model is called {twice[0]!r}, as a method is; give it another name: mine=FOLDER")
    answers |= {name: partial(_fused, model) for name, model in (models or {}).items()}
    if not answers:
        raise TriposeError("there is no method to evaluate: --classical dlt,ransac,irls or --model fusion-simulated")
    parts, first = list[Predictions](), 0
    for number, scene in enumerate(scenes):
        for views in chosen_views(choices, scene.cameras.names):
            if len(views) < 2:
                raise TriposeError("1 camera is chosen; triangulation needs at least 2")
            for method, answer in answers.items():
                parts.append(_predictions(scene, method, answer, views, first))
        first += len(scene.frame)
        progress(number + 1, len(scenes))
    if not parts:
        most = max((len(s.cameras) for s in scenes), default=0)
        raise TriposeError(f"no scene has as many cameras as are asked for; the largest rig has {most}")
    return merge(*parts)


_Answer = Callable[[Cameras, np.ndarray, np.ndarray, Skeleton], Tensor]
"""From cameras, points [row view joint 2], confidences and joints to positions."""


def _triangulate(
    method: Method, rig: Cameras, points_px: np.ndarray, confidence: np.ndarray, skeleton: Skeleton
) -> Tensor:
    return answered(method, rig, points_px, confidence, skeleton)


def _fused(
    model: FusionTriangulation, rig: Cameras, points_px: np.ndarray, confidence: np.ndarray, skeleton: Skeleton
) -> Tensor:
    return fused_positions(model, rig, points_px, confidence, skeleton.joints)


def _predictions(scene: Scene, method: str, answer: _Answer, views: tuple[int, ...], first: int) -> Predictions:
    rows, given = len(scene.frame), np.zeros((len(scene.frame), len(scene.cameras)), dtype=bool)
    given[:, list(views)] = True
    return Predictions(
        row=first + np.arange(rows),
        method=np.full(rows, method),
        views=given,
        keypoints_mm=_triangulated(scene, answer, views),
        truth_mm=scene.keypoints_mm,
        group=np.full(rows, scene.name),
        skeleton=scene.skeleton,
    )


def _triangulated(scene: Scene, answer: _Answer, views: tuple[int, ...]) -> Float[np.ndarray, "row joint 3"]:
    if scene.detections is None:
        raise TriposeError(
            f"scene {scene.name!r} has no detections; models look at the crops that are beside its index"
        )
    some = list(views)
    rig = scene.cameras.select([scene.cameras.names[v] for v in some])
    points, confidence = scene.detections.points_px[:, some], scene.detections.confidence[:, some]
    position: Float[np.ndarray, "row joint 3"] = answer(rig, points, confidence, scene.skeleton).numpy()
    return position
