"""What a run starts with: its model, with weights that are taken from elsewhere."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tripose.errors import TriposeError
from tripose.models.config import Algebraic, Evidence
from tripose.models.evidence import EvidenceTriangulation
from tripose.models.movenet_weights import start_from_thunder
from tripose.models.pose_movenet import PoseMoveNet
from tripose.models.weights import Model, build_model, load_model
from tripose.train.config import TrainConfig


def initial_model(config: TrainConfig) -> tuple[Model, str]:
    """The model with its first weights, and a sentence that says where they are from.

    Raises:
        TriposeError: `init` is no model, one of another skeleton, or has no weight in common with this one.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    random = {name: weight.clone() for name, weight in model.state_dict().items() if _within(name, config.fresh)}
    if len(config.fresh) and not random:
        raise TriposeError(f"fresh: the model has no part {config.fresh[0]!r}")
    said = _initialise(model, config)
    model.load_state_dict(random, strict=False)
    return model, said + (f"; random: {', '.join(config.fresh)}" if config.fresh else "")


def _within(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _initialise(model: Model, config: TrainConfig) -> str:
    if config.init is None:
        return "all weights are random"
    if config.init == "movenet":
        backbone = model.algebraic.backbone if isinstance(model, EvidenceTriangulation) else model.backbone
        if not isinstance(backbone, PoseMoveNet):
            raise TriposeError(f"init is movenet, and model.backbone is {config.model.backbone}: it has to be movenet")
        start_from_thunder(backbone, config.model.joints)
        return "the 2D network starts from MoveNet Thunder"
    own = model.state_dict()
    taken = {name: w for name, w in _given(config.init, config).items() if name in own and w.shape == own[name].shape}
    if not taken:
        raise TriposeError(f"init: {config.init} has no weights of the names and shapes of this model's")
    model.load_state_dict(taken, strict=False)
    fresh = sorted({".".join(name.split(".")[:2]) for name in own.keys() - taken.keys()})
    said = f"{len(taken)} of {len(own)} tensors are from {config.init}"
    return said + (f"; random: {', '.join(fresh)}" if fresh else "")


def _given(folder: Path, config: TrainConfig) -> dict[str, Tensor]:
    try:
        model = load_model(folder)
    except TriposeError as error:
        raise TriposeError(f"init: {error}") from error
    if model.config.skeleton != config.model.skeleton:
        raise TriposeError(
            f"init: {folder} is a model of {model.config.skeleton}, and this run's skeleton is"
            f" {config.model.skeleton}: its joints would be mixed up"
        )
    # The first stage of the evidence method is a whole algebraic model.
    inside = isinstance(model.config, Algebraic) and isinstance(config.model, Evidence)
    return {f"algebraic.{name}" if inside else name: weight for name, weight in model.state_dict().items()}
