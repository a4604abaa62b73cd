"""Random bodies: Anny's shape space, posed, dressed by the bone that moves a vertex, with the truth of their joints.

Anny (NAVER, arXiv:2511.03589) is installed as a package with its data (CC0) inside; nothing is downloaded. Its first
build takes about 90 s and is cached.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64

from tripose.data.synthetic.motion_body import POSED_BONES, matrices
from tripose.data.synthetic.raster import vertex_normals
from tripose.errors import TriposeError
from tripose.skeleton import H36M17, HALPE26

# What a vertex is dressed as, by the bone that moves it most.
PARTS = ("skin", "shirt", "trousers", "lower legs", "shoes", "upper sleeve", "lower sleeve", "hair", "eye")
_PART_OF_BONE = {
    "toe": 4, "foot": 4, "lowerleg": 3, "upperleg": 2, "pelvis": 2, "root": 2, "spine": 1, "clavicle": 1,
    "shoulder": 1, "breast": 1, "upperarm": 5, "lowerarm": 6, "eye": 8,
}  # fmt: skip
_HAIR, _SKIN = 7, 0
# Joints of H36M-17 at the heads of bones. Human3.6M's "head_top" is inside the head, its spine high in the back.
_H36M_BONES = {
    "hip": "upperleg01", "knee": "lowerleg01", "ankle": "foot", "shoulder": "upperarm01", "elbow": "lowerarm01",
    "wrist": "wrist",
}  # fmt: skip
SHAPE = {
    "gender": (0.0, 1.0), "age": (0.45, 0.95), "muscle": (0.0, 1.0), "weight": (0.0, 1.0), "height": (0.1, 0.9),
    "proportions": (0.0, 1.0),
}  # fmt: skip
"""Anny's shape parameters and the range of each that people here have: teenagers to the old."""


@dataclass(frozen=True)
class Body:
    """A posed body, lowest point on the floor.

    Attributes:
        vertices_mm: of the skin.
        normals: of the skin.
        texture_m: the unposed vertices, on which patterns are painted.
        keypoints_mm: truth by skeleton name ("halpe26", "h36m17").
    """

    vertices_mm: Float[np.ndarray, "vertex 3"]
    normals: Float32[np.ndarray, "vertex 3"]
    texture_m: Float32[np.ndarray, "vertex 3"]
    keypoints_mm: Mapping[str, Float[np.ndarray, "joint 3"]]


class BodyModel:
    """Anny with what this module needs beside: parts, smooth clothes, joints."""

    def __init__(self) -> None:
        try:
            importlib.import_module("warp").config.log_level = logging.ERROR  # anny's skinning, which greets users
            anny = importlib.import_module("anny")
            keypoints = importlib.import_module("anny.keypoints")
        except ImportError as error:
            raise TriposeError("synthetic people need the package anny: pip install 'tripose[synth]'") from error
        self.anny = anny.Anny().to(torch.float32)
        self.regressor = keypoints.KeypointsRegressor.coco(self.anny)
        self.bones: list[str] = list(self.anny.bone_labels)
        self.posed = [self.bones.index(bone) for bone in POSED_BONES]
        self.faces: Int32[np.ndarray, "face 3"] = self.anny.faces.numpy().astype(np.int32)
        template = self.anny.template_vertices.numpy()
        self.parts = _parts(self.anny, template)
        corners = self.parts[self.faces]
        self.face_part: Int64[np.ndarray, " face"] = np.where(
            corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0]
        )
        self.softness = _smooth(np.eye(len(PARTS))[self.parts], self.faces)
        self.top = int(np.argmax(template[:, 2]))

    def __call__(self, poses: Float[np.ndarray, "body bone 3"], shapes: Sequence[Mapping[str, float]]) -> list[Body]:
        """Bodies on the floor, above the world's origin.

        Args:
            poses: rotation vectors of `POSED_BONES`.
            shapes: per body, Anny's parameters, see `SHAPE`.
        """
        transforms = torch.eye(4).repeat(len(poses), len(self.bones), 1, 1)
        transforms[:, self.posed, :3, :3] = torch.from_numpy(matrices(poses)).float()
        given = {k: torch.tensor([s[k] for s in shapes], dtype=torch.float32) for k in SHAPE}
        with torch.no_grad():
            posed = self.anny(pose_parameters=transforms, phenotype_kwargs=given)
            coco = self.regressor(posed).double().numpy() * 1000
        vertices = posed["vertices"].double().numpy() * 1000
        heads = posed["bone_poses"][:, :, :3, 3].double().numpy() * 1000
        return [self._body(*one) for one in zip(vertices, heads, coco, posed["rest_vertices"].numpy(), strict=True)]

    def _body(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        heads: Float[np.ndarray, "bone 3"],
        coco: Float[np.ndarray, "keypoint 3"],
        rest: Float[np.ndarray, "vertex 3"],
    ) -> Body:
        shift = np.array([-vertices[:, 0].mean(), -vertices[:, 1].mean(), -vertices[:, 2].min()])
        bone = dict(zip(self.bones, heads + shift, strict=True))
        joint = dict(zip(self.regressor.labels, coco + shift, strict=True))
        top = vertices[self.top] + shift
        joint |= {"head_top": top, "neck": bone["neck01"], "pelvis": (joint["left_hip"] + joint["right_hip"]) / 2}
        own = dict(joint)
        for name, label in _H36M_BONES.items():
            own |= {f"{side}_{name}": bone[f"{label}.{side[0].upper()}"] for side in ("left", "right")}
        own |= {
            "pelvis": (own["left_hip"] + own["right_hip"]) / 2,
            "spine": bone["spine02"],
            "head_top": (bone["head"] + top) / 2,
        }
        return Body(
            vertices_mm=vertices + shift,
            normals=vertex_normals(vertices, self.faces),
            texture_m=rest.astype(np.float32),
            keypoints_mm={
                "halpe26": np.stack([joint[j] for j in HALPE26.joints]),
                "h36m17": np.stack([own[j] for j in H36M17.joints]),
            },
        )

    def dressed(self, body: Body, thickness_mm: Float[np.ndarray, " part"]) -> Float[np.ndarray, "vertex 3"]:
        """The surface that is seen: skin, pushed out by the thickness of what each part wears."""
        surface: Float[np.ndarray, "vertex 3"] = (
            body.vertices_mm + body.normals * (self.softness @ thickness_mm)[:, None]
        )
        return surface


@cache
def load_bodies() -> BodyModel:
    """The body model, once a process.

    Raises:
        TriposeError: the package is not installed.
    """
    return BodyModel()


def random_shape(rng: np.random.Generator) -> dict[str, float]:
    """Anny's shape parameters of a random person."""
    return {name: float(rng.uniform(*bounds)) for name, bounds in SHAPE.items()}


def _parts(model: Any, template: Float[np.ndarray, "vertex 3"]) -> Int64[np.ndarray, " vertex"]:
    """The part of every vertex; hair is the top and the back of the head."""
    weights = model.vertex_bone_weights.numpy()
    strongest = model.vertex_bone_indices.numpy()[np.arange(len(weights)), weights.argmax(1)]
    labels = [model.bone_labels[i] for i in strongest]
    parts = np.array(
        [next((p for start, p in _PART_OF_BONE.items() if label.startswith(start)), _SKIN) for label in labels]
    )
    head = np.array([label == "head" for label in labels])
    top, middle = template[:, 2].max(), np.median(template[head, 1])
    behind = (template[:, 1] > middle + 0.01) & (template[:, 2] > top - 0.20)
    parts[head & ((template[:, 2] > top - 0.075) | behind)] = _HAIR
    return parts


def _smooth(
    values: Float[np.ndarray, "vertex part"], faces: Int32[np.ndarray, "face 3"]
) -> Float[np.ndarray, "vertex part"]:
    """Twice the average with the neighbours, so that clothes end softly."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    degree = np.maximum(np.bincount(pairs[:, 0], minlength=len(values)), 1)[:, None]
    for _ in range(2):
        around = np.zeros_like(values)
        np.add.at(around, pairs[:, 0], values[pairs[:, 1]])
        values = 0.4 * values + 0.6 * around / degree
    return values
