"""The published experiment files (YAML): every key of them, and what they say about a model.

Keys that matter to training only are checked and then left alone: training here reads a configuration of its own.
Source: the experiments published with Iskakov et al., ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tripose.cameras import Up
from tripose.errors import TriposeError
from tripose.geometry.volume import Aggregation
from tripose.models.config import Algebraic, ModelConfig, Ransac, Volumetric
from tripose.models.v2v import V2V

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """What all sections share: a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BackboneSection(Section):
    """``model.backbone``: the 2D network."""

    num_layers: Literal[18, 34, 50, 101, 152]
    num_joints: Count
    style: Literal["simple", "caffe"]
    name: str | None = None
    init_weights: bool | None = None
    checkpoint: str | None = None


class ModelSection(Section):
    """``model``; what a method does not read may be there."""

    name: Literal["alg", "ransac", "vol"]
    backbone: BackboneSection
    init_weights: bool | None = None
    checkpoint: str | None = None
    use_confidences: bool | None = None
    heatmap_softmax: bool | None = None
    heatmap_multiplier: float | None = None
    direct_optimization: bool | None = None
    kind: Literal["mpii", "coco"] | None = None
    volume_aggregation_method: Aggregation | None = None
    use_gt_pelvis: bool | None = None  # callers say where the cuboid stands
    cuboid_side: Positive | None = None
    volume_size: Count | None = None
    volume_multiplier: float | None = None
    volume_softmax: bool | None = None
    transfer_cmu_to_human36m: bool = False


class OptSection(Section):
    """``opt``: losses and optimiser."""

    criterion: Literal["MSE", "MSESmooth", "MAE"] | None = None
    mse_smooth_threshold: Positive | None = None
    use_volumetric_ce_loss: bool | None = None
    volumetric_ce_loss_weight: float | None = None
    n_objects_per_epoch: Count | None = None
    n_epochs: Count | None = None
    batch_size: Count | None = None
    val_batch_size: Count | None = None
    lr: float | None = None
    process_features_lr: float | None = None
    volume_net_lr: float | None = None
    grad_clip: float | None = None
    scale_keypoints_3d: Positive | None = None


class SplitSection(Section):
    """``dataset.train`` and ``dataset.val``."""

    h36m_root: str | None = None
    labels_path: str | None = None
    pred_results_path: str | None = None
    with_damaged_actions: bool | None = None
    undistort_images: bool | None = None
    scale_bbox: Positive | None = None
    shuffle: bool | None = None
    randomize_n_views: bool | None = None
    min_n_views: Count | None = None
    max_n_views: Count | None = None
    num_workers: Annotated[int, Field(ge=0)] | None = None
    ignore_cameras: list[int] | None = None
    crop: bool | None = None
    retain_every_n_frames_in_test: Count | None = None


class DatasetSection(Section):
    """``dataset``."""

    kind: str | None = None
    train: SplitSection = SplitSection()
    val: SplitSection = SplitSection()


class Experiment(Section):
    """A whole file."""

    kind: Literal["human36m", "mpii", "coco"]
    model: ModelSection
    image_shape: tuple[Count, Count] = (256, 256)  # height, width
    title: str | None = None
    vis_freq: int | None = None
    vis_n_elements: int | None = None
    transfer_cmu_to_human36m: bool | None = None  # drawing only
    opt: OptSection = OptSection()
    dataset: DatasetSection = DatasetSection()


# What the published code reads without a default.
_NEEDED = {
    "ransac": ("direct_optimization",),
    "alg": ("use_confidences", "heatmap_softmax", "heatmap_multiplier"),
    "vol": (
        "kind",
        "volume_aggregation_method",
        "cuboid_side",
        "volume_size",
        "volume_multiplier",
        "volume_softmax",
    ),
}


def read_official_config(path: Path) -> ModelConfig:
    """The model that a published experiment file describes.

    Raises:
        TriposeError: naming the file and the key: not YAML, an unknown key (with the nearest known one), a missing key,
            a value that is not allowed, or joints that no skeleton here has.
    """
    said = _read(path)
    model = said.model
    missing = [f"model.{key}" for key in _NEEDED[model.name] if getattr(model, key) is None]
    if missing:
        raise TriposeError(f"{path}: model.name is {model.name!r}, which needs {', '.join(missing)}")
    if model.backbone.style == "caffe":
        raise TriposeError(
            f"{path}: model.backbone.style is 'caffe' (strides in the first 1x1 convolutions); only 'simple' is built"
        )
    height, width = said.image_shape
    shared: dict[str, Any] = {
        "skeleton": _skeleton(said, path),
        "backbone": f"resnet{model.backbone.num_layers}",
        "image_size_px": (width, height),
        "legacy_alignment": True,
        "channels": "bgr",
    }
    value: dict[str, Any] = dict(model)
    if model.name == "ransac":
        return Ransac(**shared, refine=value["direct_optimization"])
    if model.name == "alg":
        return Algebraic(
            **shared,
            confidences="image" if value["use_confidences"] else "none",
            softmax=value["heatmap_softmax"],
            multiplier=value["heatmap_multiplier"],
        )
    if value["volume_size"] % V2V.divisor:
        raise TriposeError(
            f"{path}: model.volume_size is {value['volume_size']}; the 3D network needs a multiple of {V2V.divisor}"
        )
    return Volumetric(
        **shared,
        aggregation=value["volume_aggregation_method"],
        voxels=value["volume_size"],
        side_mm=_side_mm(value["cuboid_side"], path),
        softmax=value["volume_softmax"],
        multiplier=value["volume_multiplier"],
        up=_up(model),
    )


def _skeleton(said: Experiment, path: Path) -> str:
    model, joints = said.model, said.model.backbone.num_joints
    coco = said.kind == "coco"
    if model.transfer_cmu_to_human36m:
        # The network comes from CMU Panoptic; only the images and the world are those of Human3.6M.
        coco = True
    elif model.kind is not None and (model.kind == "coco") != coco:
        raise TriposeError(f"{path}: kind is {said.kind!r} and model.kind is {model.kind!r}, which have other joints")
    known = {17: "coco17"} if coco else {17: "h36m17", 16: "mpii16"}
    if joints not in known:
        kind = "coco" if coco else said.kind
        raise TriposeError(
            f"{path}: model.backbone.num_joints is {joints}; of kind {kind!r} are {' or '.join(map(str, known))} joints"
        )
    return known[joints]


def _up(model: ModelSection) -> Up:
    return "-y" if model.kind == "coco" or model.transfer_cmu_to_human36m else "z"


def _side_mm(side: float, path: Path) -> float:
    """The cuboid's side in mm, given in the unit of the training data: mm (Human3.6M) or cm (CMU Panoptic).

    Sides that hold a person, 1 m to 10 m, tell the two apart.
    """
    if 1000 <= side <= 10000:
        return side
    if 100 <= side < 1000:
        return 10 * side
    raise TriposeError(f"{path}: model.cuboid_side is {side:g}; a person needs 1000 to 10000 mm, or 100 to 1000 cm")


def _read(path: Path) -> Experiment:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TriposeError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise TriposeError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise TriposeError(f"{path}: expected keys and values, got {type(content).__name__}")
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors()[:10])
        raise TriposeError(f"{path}: {problems}") from error


def _problem(error: ErrorDetails) -> str:
    key, value = ".".join(map(str, error["loc"])), error["input"]
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"{key} is no key of the published experiments (nearest is {_nearest(error['loc'])})"
    shown = type(value).__name__ if isinstance(value, dict | list) else repr(value)[:60]
    return f"{key} is {shown}: {error['msg']}"


def _nearest(unknown: tuple[int | str, ...]) -> str:
    """The known key that is most like an unknown one; among equals, one of the same section."""
    *sections, name = map(str, unknown)
    section = ".".join(sections)

    def likeness(known: str) -> tuple[float, bool]:
        known_section, _, known_name = known.rpartition(".")
        return SequenceMatcher(None, name, known_name).ratio(), known_section == section

    return max(_keys(Experiment), key=likeness)


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _keys(field.annotation, f"{prefix}{name}.")
