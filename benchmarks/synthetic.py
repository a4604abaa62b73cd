"""Synthetic people: how fast they are rendered, and whether a network that only knows photographs sees them so.

    python benchmarks/synthetic.py [--people 60]

The second: MoveNet Thunder's keypoints in four clear views, triangulated, against the truth. What is systematic in it
is what the two call a joint.
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from tripose.data.synthetic.people import People, render
from tripose.detect.movenet import estimate_keypoints, load_thunder
from tripose.geometry.triangulate import triangulate
from tripose.skeleton import COCO17
from tripose.verbs.bench import machine


def main(people: Annotated[int, typer.Option(min=1)] = 60) -> None:
    torch.set_num_threads(1)
    which = People(seed=3, difficulty="clear", layout="ring", distance_mm=(2500.0, 3100.0))
    render(which, 0)  # compiles, and loads the body model
    start = time.perf_counter()
    made = [render(which, i).sample("halpe26") for i in range(people)]
    rate = 4 * people / (time.perf_counter() - start)
    thunder, apart = load_thunder(), []
    for sample in made:
        points, confidence = estimate_keypoints(thunder, sample.images)
        found = triangulate(sample.cameras, points, confidence, method="ransac").position_mm.numpy()
        apart.append(found - sample.keypoints_mm[: len(COCO17)])
    distance = np.linalg.norm(apart, axis=-1)
    table = Table("joint", "MoveNet from the truth, median mm")
    for joint, each in zip(COCO17.joints, distance.T, strict=True):
        table.add_row(joint, f"{np.nanmedian(each):.0f}")
    table.add_row("all", f"{np.nanmedian(distance):.0f}")
    console = Console()
    console.print(f"{machine()}; {rate:.0f} crops of 256 px a second on one thread", highlight=False)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
