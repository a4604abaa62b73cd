"""Shelf (Belagiannis et al., CVPR 2014) with OpenPose's detections, as a data set for ``tripose evaluate``.

    python benchmarks/shelf.py shelf_4dassociation out/shelf-60.npz --gate-px 60
    tripose evaluate out/shelf-60.npz --views 2,3,4 --out out/shelf-60

Association is given: of the candidates of a joint in a view the one nearest to the projected truth, if it is within the
gate. The hips, whose definition differs by 7 cm, have no truth here, but are seen. The people are there ten times, with
the cameras in other orders, so that an evaluation of the first two, three or four sees all choices of them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tripose.cameras import Cameras
from tripose.data.scenes import Detections, Scene, write_index
from tripose.skeleton import BODY25, COCO17

# Counted from any camera on: all pairs first, all triples first, all fours first.
ORDERS = ((0, 1, 2, 3, 4), (0, 2, 3, 1, 4))


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the data, with check.py, which reads it.")],
    out: Annotated[Path, typer.Argument(help="Index to write.")],
    gate_px: Annotated[float, typer.Option(help="Farther candidates are left out; 250: gross errors stay.")] = 60.0,
) -> None:
    spec = importlib.util.spec_from_file_location("check", folder / "check.py")
    assert spec is not None
    assert spec.loader is not None
    check: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    parts, found = check.load_cameras(), [check.load_detections(view) for view in range(5)]
    cameras = Cameras.build(
        [f"cam{view}" for view in range(5)],
        [c["K"] for c in parts],
        [c["R"] for c in parts],
        [1000 * c["t"] for c in parts],
        [[check.W, check.H]] * 5,
        up="z",
    )
    frames, rows = [], []
    for frame, people in enumerate(check.load_skeletons("gt.txt")):
        for person in people.values():
            frames.append(frame)
            rows.append(_row(check, parts, [views[frame][0] for views in found], person, gate_px))
    points, score, truth = (np.array(part) for part in zip(*rows, strict=True))
    scenes = []
    for order in [[(view + first) % 5 for view in order] for order in ORDERS for first in range(5)]:
        rig = cameras.select([cameras.names[view] for view in order])
        seen = Detections(points[:, order], score[:, order])
        scenes.append(Scene("shelf", rig, {}, np.array(frames), truth, COCO17, detections=seen))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_index(scenes, out)
    typer.echo(f"{out}: {len(rows)} people, {len(scenes)} orders of the cameras")


def _row(check: Any, cameras: Any, candidates: Any, person: Any, gate_px: float) -> tuple[Any, Any, Any]:
    points, score, truth = np.full((5, 17, 2), np.nan), np.zeros((5, 17)), np.full((17, 3), np.nan)
    for theirs, openpose in check.TO_BODY25.items():
        joint = COCO17.index(BODY25.joints[openpose])
        if person[theirs, 3] <= 0:
            continue
        if "hip" not in COCO17.joints[joint]:
            truth[joint] = 1000 * person[theirs, :3]
        for view, camera in enumerate(cameras):
            at, depth = check.project(person[theirs, :3], camera)
            some = candidates[view][openpose]
            if depth > 0 and len(some) and 0 <= at[0] < check.W and 0 <= at[1] < check.H:
                distance = np.linalg.norm(some[:, :2] - at, axis=1)
                nearest = some[distance.argmin()]
                if distance.min() < gate_px:
                    points[view, joint], score[view, joint] = nearest[:2], nearest[2]
    return points, score, truth


if __name__ == "__main__":
    typer.run(main)
