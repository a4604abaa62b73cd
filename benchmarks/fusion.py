"""How sure fusion may be, and how long it takes.

    python benchmarks/fusion.py [--model fusion-simulated] [--plot docs/images/fusion-coverage.png]

Coverage: how often regions that should hold the truth in 50, 90 and 95 % of all cases do, for random people that were
neither learned from nor calibrated on, by the number of views: clean, occluded, and both with cameras that are off by
3 cm at the person. Time: of a person in a frame, 17 joints, 4 views, beside irls, in one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from tripose.cameras import Cameras
from tripose.data.detections.noise import CLEAN, OCCLUDED, Noise
from tripose.data.detections.people import make_people
from tripose.data.detections.samples import simulate
from tripose.geometry.ray_fusion import RayBundle
from tripose.geometry.triangulate import triangulate
from tripose.models.fusing import calibrated, fuse
from tripose.models.fusion import FusionTriangulation
from tripose.models.fusion_certainty import covariance_factor, distances, radius
from tripose.models.fusion_joints import layout_of
from tripose.models.weights import load_fusion
from tripose.skeleton import COCO17
from tripose.verbs.bench import machine

LEVELS = (0.5, 0.9, 0.95)
WRONG = 0.03
SETTINGS: dict[str, Noise] = {
    "clean": CLEAN,
    "occluded": OCCLUDED,
    "clean, cameras off": replace(CLEAN, calibration=(WRONG, WRONG)),
    "occluded, cameras off": replace(OCCLUDED, calibration=(WRONG, WRONG)),
}
VIEWS, PEOPLE, SEED = range(2, 9), 500, 77


def coverage(model: FusionTriangulation) -> dict[str, list[list[float]]]:
    """Setting -> for each number of views the share within each level."""
    bodies = torch.from_numpy(make_people(PEOPLE, SEED, "test"))
    layout, g = layout_of(COCO17.joints), torch.Generator().manual_seed(SEED)
    found: dict[str, list[list[float]]] = {}
    for name, noise in SETTINGS.items():
        for views in VIEWS:
            seen = simulate(bodies, PEOPLE, views, COCO17, noise, g)
            rays = RayBundle(seen.origin.double(), seen.direction.double(), seen.score.double())
            with torch.no_grad():
                said = calibrated(model, model(rays, layout), rays)
            by = (seen.score.amax(-1) > 0).sum(1).clamp(max=8)
            squared = distances(said.position - seen.truth, said.covariance)
            told = (squared * covariance_factor(model.freedom[by])[:, None])[by > 1]
            reach = [[radius(level, f) for level in LEVELS] for f in model.freedom[by[by > 1]].tolist()]
            inside = told[..., None] <= torch.tensor(reach)[:, None]
            found.setdefault(name, []).append(inside.double().mean((0, 1)).tolist())
    return found


def plot(found: dict[str, list[list[float]]], to: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    for axes, (name, shares) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
        for i, level in enumerate(LEVELS):
            axes.axhline(100 * level, color="0.8", linewidth=1)
            axes.plot(list(VIEWS), [100 * share[i] for share in shares], marker="o", label=f"{100 * level:.0f} %")
        axes.set(title=name, xlabel="views", ylim=(20, 100))
    figure.axes[0].set_ylabel("truth within, %")
    figure.axes[0].legend(loc="lower right")
    figure.savefig(to, dpi=130)


def timings(model: FusionTriangulation) -> dict[str, float]:
    """Microseconds of a person in a frame."""
    people, views = 256, 4
    angle = torch.arange(views, dtype=torch.float64) * (2 * torch.pi / views)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [[-angle.sin(), angle.cos(), zero], [zero, zero, -one], [-angle.cos(), -angle.sin(), zero]]
    R = torch.stack([torch.stack(row, -1) for row in rows], -2)
    K = torch.tensor([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]).expand(views, 3, 3)
    cameras = Cameras.build(
        [str(v) for v in range(views)], K, R, torch.tensor([[0.0, 0, 4000]] * views), [[1000] * 2] * 4
    )
    points = cameras.project(400 * torch.randn(people * 17, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    points = points.unflatten(1, (people, 17)).movedim(0, 1) + 2 * torch.randn(people, views, 17, 2).double()
    score = torch.full(points.shape[:-1], 0.9).double()

    def each(call: Callable[[], object], n: int) -> float:
        call()
        best = np.inf
        for _ in range(5):
            start = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - start)
        return 1e6 * best / n

    layout = layout_of(COCO17.joints)
    direction = cameras.rays(points.movedim(1, 0).flatten(1, 2)).unflatten(1, (people, 17)).movedim(0, 1)
    rays = RayBundle(cameras.centers_mm.expand(people, -1, -1), direction, score)
    few = RayBundle(rays.origin[:1], rays.direction[:1], rays.score[:1])
    with torch.inference_mode():
        half = [RayBundle(*(part[i : i + 128] for part in (rays.origin, direction, score))) for i in (0, 128)]
        return {
            "fusion network, batch": each(lambda: [model(part, layout) for part in half], people),
            "fusion network, one": each(lambda: model(few, layout), 1),
            "fusion with everything, batch": each(lambda: fuse(model, cameras, points, score, COCO17.joints), people),
            "irls, batch": each(lambda: triangulate(cameras, points, score, method="irls"), people),
            "irls, one": each(lambda: triangulate(cameras, points[:1], score[:1], method="irls"), 1),
        }


def main(
    model: str = "fusion-simulated",
    plot_to: Annotated[Path | None, typer.Option("--plot", help="PNG of the coverage.")] = None,
) -> None:
    torch.set_num_threads(1)
    console, loaded = Console(), load_fusion(model)
    console.print(machine(), highlight=False)
    times = timings(loaded)
    for name, microseconds in times.items():
        console.print(f"{name}: {microseconds:.0f} us a person and frame", highlight=False)
    found = coverage(loaded)
    table = Table("views", *found)
    for i, views in enumerate(VIEWS):
        table.add_row(str(views), *(" / ".join(f"{100 * s:.0f}" for s in shares[i]) for shares in found.values()))
    console.print(table)
    if plot_to is not None:
        plot(found, plot_to)


if __name__ == "__main__":
    typer.run(main)
