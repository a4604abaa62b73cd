"""Put a trained model among the weights that ship: fusion, or evidence with the algebraic one that it starts with.

``python tools/ship_weights.py runs/evidence-2/last``: float16, their common 2D network once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer
from safetensors.torch import save_file

from tripose.models.evidence import EvidenceTriangulation
from tripose.models.fusion import FusionTriangulation
from tripose.models.weights import KEYPOINTS, SHIPPED, Model, backbone_of, is_fusion, load_fusion, load_model


def main(trained: Path) -> None:
    """Write ``fusion-simulated``, or ``algebraic-synthetic``, ``volumetric-synthetic`` and their 2D network."""
    if is_fusion(trained):
        ship(load_fusion(trained), "fusion-simulated")
        return
    model = load_model(trained)
    if not isinstance(model, EvidenceTriangulation):
        raise SystemExit(f"{trained} is no evidence model")
    ship(model.algebraic, "algebraic-synthetic")
    ship(model, "volumetric-synthetic")
    network = model.algebraic.backbone.state_dict()
    save_file({key: value.half().contiguous() for key, value in network.items()}, SHIPPED / KEYPOINTS)


def ship(model: Model | FusionTriangulation, name: str) -> None:
    """Everything but the 2D network."""
    folder = SHIPPED / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(model.config), indent=2) + "\n", encoding="utf-8")
    backbone = None if isinstance(model, FusionTriangulation) else f"{backbone_of(model)}."
    own = {k: v for k, v in model.state_dict().items() if backbone is None or not k.startswith(backbone)}
    save_file({key: value.half().contiguous() for key, value in own.items()}, folder / "model.safetensors")


if __name__ == "__main__":
    typer.run(main)
