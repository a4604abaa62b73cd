"""From a published checkpoint to a model of this library."""

from __future__ import annotations

from pathlib import Path

from tripose.errors import TriposeError
from tripose.models.config import ModelConfig
from tripose.models.official import read_official_weights
from tripose.models.official_yaml import read_official_config
from tripose.models.weights import build_model, save_model

_FILES = ("model.safetensors", "config.json")


def convert(checkpoint: Path, out: Path, config: Path) -> ModelConfig:
    """Write a published checkpoint as a model folder: ``config.json`` and ``model.safetensors``.

    The model keeps what its weights were trained with: ``legacy_alignment`` and BGR images.

    Args:
        checkpoint: of the published system (algebraic, volumetric, or the 2D network alone), or a pose_resnet release.
        out: a new or empty folder, or an older model, which is replaced.
        config: the published experiment file (YAML) of the checkpoint.

    Returns:
        What the model is.

    Raises:
        TriposeError: an unreadable file, an experiment file with unknown or missing keys, or a checkpoint that is not
            what the experiment file says; nothing is written then.
    """
    _check_target(out)
    described = read_official_config(config)
    model = build_model(described)
    model.load_state_dict(read_official_weights(checkpoint, model, config))
    save_model(model, out)
    return described


def _check_target(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise TriposeError(f"{out} is a file; a model is a folder")
    if out.is_dir() and any(out.iterdir()) and not all((out / name).is_file() for name in _FILES):
        raise TriposeError(f"{out} is not empty and not a model; name another folder")
