"""Weights of the published system, and of the pose networks that it starts from (``.pth``, ``.pth.tar``).

Source: the checkpoints released with Iskakov et al., ICCV 2019, and with Xiao et al., ECCV 2018.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from tripose.errors import TriposeError
from tripose.models.config import Algebraic, ModelConfig, Ransac, Volumetric
from tripose.models.pose_resnet import STAGES
from tripose.models.weights import Model, check_names

# Names of the entry that holds the weights, where there are others beside it.
_WRAPPERS = ("state_dict", "model_state")
# Parts of the 2D network.
_PARTS = ("conv1.", "layer1.", "deconv_layers.", "final_layer.")


def read_official_weights(path: Path, model: Model, described: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by the names of `model`, which they fit.

    Of three kinds: a whole model; the same trained distributed (``module.`` before its names); the 2D network alone,
    which is all that a RANSAC model has. Old files lack ``num_batches_tracked``, which then is 0.

    Args:
        path: the checkpoint.
        model: what it is meant to be.
        described: the experiment file that says so, for the errors.

    Raises:
        TriposeError: not a readable checkpoint, or not of this model; the entries that do not fit are listed.
    """
    tensors = read_checkpoint(path)
    if not _any_under(tensors, "backbone."):
        if not _any_under(tensors, *_PARTS):
            names = ", ".join(list(tensors)[:5])
            raise TriposeError(f"{path} is no checkpoint of the published system: its first names are {names}")
        if not isinstance(model.config, Ransac):
            raise TriposeError(_only_a_backbone(path, model.config, described))
        tensors = {f"backbone.{name}": tensor for name, tensor in tensors.items()}
    if _any_under(tensors, "volume_net.") and not isinstance(model.config, Volumetric):
        raise TriposeError(f"{path} is a volumetric model (volume_net), but model.name in {described} is not 'vol'")
    _check_size(tensors, path, model.config, described)
    counts = {k: v for k, v in model.state_dict().items() if k.endswith(".num_batches_tracked")}
    tensors = {**{k: torch.zeros_like(v) for k, v in counts.items()}, **tensors}
    check_names(tensors, model, path)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise TriposeError(f"{path} holds values that are not finite, in {len(broken)} tensors, {broken[0]} first")
    return tensors


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU; nothing in the file is run.

    Raises:
        TriposeError: no such file, damaged, something else, or one that holds Python objects.
    """
    if not path.is_file():
        raise TriposeError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # about old ways of saving
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise TriposeError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever the bytes of a damaged file lead to
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            raise TriposeError(
                f"{path} asks for the Python object {named[1]}, which could run code and is not made; either it is "
                "damaged or it holds more than weights: save the state_dict() alone"
            ) from error
        raise TriposeError(f"{path} is not a PyTorch checkpoint, or damaged, or not complete") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        held = "nothing" if content == {} else f"a {type(content).__name__}"
        raise TriposeError(f"{path} holds no weights by name, but {held}")
    others = [str(k) for k, value in content.items() if not (isinstance(k, str) and isinstance(value, Tensor))]
    if others:
        raise TriposeError(f"{path} holds other things than weights: {', '.join(others[:10])}")
    tensors = {name.replace("module.", ""): tensor for name, tensor in content.items()}
    if len(tensors) < len(content):
        raise TriposeError(f"{path} holds names that differ by 'module.' only; it is a mixture of two models")
    return tensors


def _any_under(tensors: dict[str, Tensor], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in tensors)


def _only_a_backbone(path: Path, config: ModelConfig, described: Path) -> str:
    if isinstance(config, Volumetric):
        name, missing = "vol", "process_features and volume_net are missing"
    elif isinstance(config, Algebraic) and config.confidences == "image":
        name, missing = "alg", "backbone.alg_confidences is missing"
    else:
        name, missing = "alg", "it was not trained to triangulate"
    return (
        f"{path} is a 2D network alone, but model.name in {described} is {name!r}: {missing}; "
        "with model.name ransac it can be converted"
    )


def _check_size(tensors: dict[str, Tensor], path: Path, config: ModelConfig, described: Path) -> None:
    """The two numbers that may differ from the description, before a thousand names do."""
    layers = _layers(set(tensors))
    wanted = config.backbone.removeprefix("resnet")
    if layers is not None and str(layers) != wanted:
        raise TriposeError(f"{path} is a ResNet-{layers}, but model.backbone.num_layers in {described} is {wanted}")
    last = tensors.get("backbone.final_layer.weight")
    if last is not None and last.ndim and len(last) != len(config.joints):
        raise TriposeError(
            f"{path} has {len(last)} joints (final_layer), but model.backbone.num_joints in {described} is "
            f"{len(config.joints)}"
        )


def _layers(names: set[str]) -> int | None:
    """The depth of the ResNet with these parameters; None: it cannot be told."""
    stages = tuple(
        1 + max((int(m[1]) for n in names if (m := re.match(rf"backbone\.layer{s}\.(\d+)\.", n))), default=-1)
        for s in (1, 2, 3, 4)
    )
    bottleneck = "backbone.layer1.0.conv3.weight" in names
    return next((n for n, blocks in STAGES.items() if blocks == stages and (n >= 50) == bottleneck), None)
