"""A model on disk: a folder with ``config.json`` (what it computes) and ``model.safetensors`` (its weights)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

import torch
from torch import Tensor, nn

from tripose.errors import TriposeError
from tripose.models.algebraic import AlgebraicTriangulation
from tripose.models.config import Algebraic, Evidence, ModelConfig, Ransac, Volumetric
from tripose.models.evidence import EvidenceTriangulation
from tripose.models.fusion import Fusion, FusionTriangulation
from tripose.models.ransac import RansacTriangulation
from tripose.models.volumetric import VolumetricTriangulation

Model = RansacTriangulation | AlgebraicTriangulation | VolumetricTriangulation | EvidenceTriangulation
"""Those that look at images."""

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# How the name of the layer ends that has one output per joint.
_HEATMAPS = ("final_layer.weight", "keypoint_heatmap.1.weight")
SHIPPED = Path(str(resources.files("tripose"))) / "weights"
"""Folder of the weights that ship with the package."""
KEYPOINTS = "keypoints-synthetic.safetensors"
"""The 2D network of all models that ship: as it is the same, it is there once."""


def build_model(config: ModelConfig) -> Model:
    """A model with random weights."""
    if isinstance(config, Ransac):
        return RansacTriangulation(config)
    if isinstance(config, Algebraic):
        return AlgebraicTriangulation(config)
    if isinstance(config, Volumetric):
        return VolumetricTriangulation(config)
    return EvidenceTriangulation(config)


def _built(config: ModelConfig | Fusion) -> Model | FusionTriangulation:
    return FusionTriangulation(config) if isinstance(config, Fusion) else build_model(config)


def load_model(name: Path | str) -> Model:
    """Load a model that looks at images, in evaluation mode: one that ships with the package, or a folder.

    Args:
        name: a folder that `save_model`, training or ``tripose convert`` wrote; where there is no such folder, the name
            of a model that ships with the package (see `shipped_models`).

    Raises:
        TriposeError: there is no such folder or model, a file is missing or damaged, the configuration has an unknown
            or illegal entry, or the weights are those of another model; the entries are named.
    """
    folder = _folder(name)
    config = _read_config(folder)
    if isinstance(config, Fusion):
        raise TriposeError(f"{folder} is a fusion model, which works on keypoints and not on images")
    try:
        model = build_model(config)
    except TriposeError as error:
        raise TriposeError(f"{folder / _CONFIG}: {error}") from error
    return _with_weights(model, folder).eval()


def load_fusion(name: Path | str) -> FusionTriangulation:
    """Load a fusion model, which looks at keypoints; arguments and errors as of `load_model`."""
    folder = _folder(name)
    config = _read_config(folder)
    if not isinstance(config, Fusion):
        raise TriposeError(f"{folder} is a {config.method} model, which looks at images and not keypoints")
    return _with_weights(FusionTriangulation(config), folder).eval()


def is_fusion(name: Path | str) -> bool:
    """Whether a model works on keypoints; errors as of `load_model`."""
    return isinstance(_read_config(_folder(name)), Fusion)


def _folder(name: Path | str) -> Path:
    folder = Path(name)
    if not folder.exists():
        if str(name) not in shipped_models():
            raise TriposeError(
                f"{name} is neither a folder nor a model that ships with the package: "
                f"{', '.join(shipped_models()) or 'none does'}"
            )
        folder = SHIPPED / name
    for file in (_CONFIG, _WEIGHTS):
        if not (folder / file).is_file():
            raise TriposeError(f"{folder} is not a model: it has no {file}")
    return folder


def _read_config(folder: Path) -> ModelConfig | Fusion:
    try:
        return parse_config((folder / _CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise TriposeError(f"{folder / _CONFIG}: {error}") from error


_Any = TypeVar("_Any", Model, FusionTriangulation)


def _with_weights(model: _Any, folder: Path) -> _Any:
    weights = _read(folder / _WEIGHTS)
    if folder.parent == SHIPPED and not isinstance(model, FusionTriangulation):
        weights |= {f"{backbone_of(model)}.{key}": value for key, value in _read(SHIPPED / KEYPOINTS).items()}
    check_names(weights, model, folder / _WEIGHTS)
    model.load_state_dict(weights)
    return model


def digest(name: Path | str) -> str:
    """What tells a model from any other, for names as `load_model` takes them: a hash of its files."""
    folder = Path(name) if Path(name).exists() else SHIPPED / name
    files = [folder / _CONFIG, folder / _WEIGHTS, *([SHIPPED / KEYPOINTS] if folder.parent == SHIPPED else [])]
    total = hashlib.sha256()
    for file in files:
        if file.is_file():  # else `load_model` says so
            total.update(file.read_bytes())
    return total.hexdigest()


def backbone_of(model: Model) -> str:
    """What the model's 2D network is called in it."""
    return "algebraic.backbone" if isinstance(model, EvidenceTriangulation) else "backbone"


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise TriposeError(f"{path} cannot be read, it is damaged or incomplete: {error}") from error
    return weights


def shipped_models() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{_CONFIG}"))


def save_model(model: Model | FusionTriangulation, folder: Path | str) -> None:
    """Write a model as a folder; an older model there is replaced, and kept when writing fails.

    Raises:
        TriposeError: the folder cannot be written, or the model's weights are not those of its configuration, as in
            the copies of `tripose.models.inference`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    with torch.device("meta"):
        check_names(model.state_dict(), _built(model.config), folder)
    parts = {name: folder / f"{name}.part" for name in (_CONFIG, _WEIGHTS)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts[_CONFIG].write_text(json.dumps(asdict(model.config), indent=2) + "\n", encoding="utf-8")
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, parts[_WEIGHTS])
        for name, part in parts.items():
            part.replace(folder / name)
    except (OSError, SafetensorError) as error:
        for part in parts.values():
            if part.exists():
                part.unlink()
        raise TriposeError(f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def parse_config(text: str) -> ModelConfig | Fusion:
    """A configuration from JSON.

    Raises:
        TriposeError: naming the entry and what is wrong with it.
    """
    import pydantic

    tagged = Annotated[Union[Ransac, Algebraic, Volumetric, Evidence, Fusion], pydantic.Field(discriminator="method")]  # noqa: UP007
    try:
        config: ModelConfig | Fusion = pydantic.TypeAdapter[Any](tagged).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        if first["type"] == "value_error":  # our own sentence
            raise TriposeError(str(first["ctx"]["error"])) from error
        if first["type"] == "union_tag_not_found":
            raise TriposeError("method is missing") from error
        given = "" if first["type"] == "missing" else f" (got {first['input']!r:.60})"
        raise TriposeError(f"{f'{where}: ' if where else ''}{first['msg']}{given}") from error
    return config


def check_names(weights: dict[str, Any], model: nn.Module, source: Path) -> None:
    """Check that a file's tensors are the model's, by name and shape.

    Raises:
        TriposeError: listing what is missing, what is unknown, and what has another shape; or that only the joints are
            others.
    """
    own = model.state_dict()
    shapes = [
        f"{k} is {list(weights[k].shape)}, not {list(own[k].shape)}"
        for k in sorted(own.keys() & weights.keys())
        if weights[k].shape != own[k].shape
    ]
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    heatmaps = next((k for k in own if k.endswith(_HEATMAPS)), None)
    if shapes and not (missing or unknown) and heatmaps and len(weights[heatmaps]) != len(own[heatmaps]):
        joints, wanted = len(weights[heatmaps]), len(own[heatmaps])
        raise TriposeError(f"{source} is a checkpoint of another skeleton: of {joints} joints, not {wanted}")
    problems = [("missing: ", missing), ("unknown: ", unknown), ("of another shape: ", shapes)]
    found = [f"{what}{_some(names)}" for what, names in problems if names]
    if found:
        raise TriposeError(f"{source} does not hold the weights of this model; {'; '.join(found)}")


def _some(names: list[str]) -> str:
    """All of a short list, the first ten and the number of a long one."""
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:10])} and {len(names) - 10} more"
