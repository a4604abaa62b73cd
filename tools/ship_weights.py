"""Put a trained evidence model, and the algebraic one that it starts with, among the weights that ship.

``python tools/ship_weights.py runs/evidence-2/last``: float16, their common 2D network once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer
from safetensors.torch import save_file

from tripose.models.evidence import EvidenceTriangulation
from tripose.models.weights import KEYPOINTS, SHIPPED, Model, backbone_of, load_model


def main(trained: Path) -> None:
    """Write ``algebraic-synthetic``, ``volumetric-synthetic`` and their 2D network."""
    model = load_model(trained)
    if not isinstance(model, EvidenceTriangulation):
        raise SystemExit(f"{trained} is no evidence model")
    ship(model.algebraic, "algebraic-synthetic")
    ship(model, "volumetric-synthetic")
    network = model.algebraic.backbone.state_dict()
    save_file({key: value.half().contiguous() for key, value in network.items()}, SHIPPED / KEYPOINTS)


def ship(model: Model, name: str) -> None:
    """Everything but the 2D network."""
    folder = SHIPPED / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(model.config), indent=2) + "\n", encoding="utf-8")
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{backbone_of(model)}.")}
    save_file({key: value.half().contiguous() for key, value in own.items()}, folder / "model.safetensors")


if __name__ == "__main__":
    typer.run(main)
