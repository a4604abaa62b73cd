"""Data sets, training, evaluation and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from tripose.cli.common import app, console, progress, say
from tripose.errors import TriposeError, missing_extra

Difficulty = Literal["mixed", "clear", "occluded", "truncated"]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The run, a YAML file; see configs/.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: an entry to change, e.g. data.workers=2.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME of the file).")] = None,
) -> None:
    """Train a model; the same command again goes on after an interruption. Works under torchrun."""
    try:
        from tripose.train.config_file import read_config
        from tripose.train.run import train as run
    except ModuleNotFoundError as error:
        if error.name not in ("lightning", "tensorboard", "matplotlib"):
            raise
        raise missing_extra(error.name, "train") from error
    folder = out or Path("runs") / config.stem
    run(read_config(config, changes or ()), folder, say=lambda text: say("train", text))
    console.print(f"{folder}: best, last, metrics.json", highlight=False, soft_wrap=True)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    samples: Annotated[int, typer.Option(min=1, help="People (with --recording: frames).")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other people, rooms, rigs and motion.")] = 0,
    views: Annotated[str, typer.Option(help="Cameras: a number, or smallest and largest, as in 2-8.")] = "4",
    difficulty: Annotated[Difficulty, typer.Option(help="What is in the way.")] = "mixed",
    poses: Annotated[Literal["train", "test"], typer.Option(help="Half of the pose prior.")] = "train",
    recording: Annotated[
        bool, typer.Option("--recording", help="Write one recording: videos, calibration, truth.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Render people that never were: a data set to train on, or a whole recording."""
    from tripose.data.synthetic.people import People
    from tripose.verbs.synth import synth as render
    from tripose.verbs.synth import synth_recording

    least, most = _range(views)
    with progress(out.name) as step:
        if recording:
            synth_recording(seed, samples, out, views=most, progress=step)
        else:
            people = People(seed=seed, views=(least, most), difficulty=difficulty, poses=poses)
            render(people, samples, out, workers=workers, progress=step)
    console.print(str(out), highlight=False, soft_wrap=True)


def _range(said: str) -> tuple[int, int]:
    numbers = said.split("-")
    if len(numbers) > 2 or not all(n.isdigit() for n in numbers) or not 1 <= int(numbers[0]) <= int(numbers[-1]):
        raise TriposeError(f"--views is {said!r}; expected a number of cameras, or two as in 2-8")
    return int(numbers[0]), int(numbers[-1])


prepare = typer.Typer(no_args_is_help=True, help="Make data sets to train and evaluate on.")
app.add_typer(prepare, name="prepare")


@prepare.command()
def own(
    src: Annotated[Path, typer.Argument(help="Folder with dataset.yaml; see docs/own-data.md.")],
    dst: Annotated[Path, typer.Argument(help="Folder to write: one data set for each split.")],
    skeleton: Annotated[str, typer.Option(help="Joints of the truth.")] = "halpe26",
    side_px: Annotated[int, typer.Option(min=32, help="Side of the crops.")] = 256,
) -> None:
    """Cut everybody out of your own labelled videos."""
    from tripose.skeleton import skeleton_named
    from tripose.verbs.prepare import prepare_own

    with progress(dst.name) as step:
        written = prepare_own(src, dst, skeleton=skeleton_named(skeleton), side_px=side_px, progress=step)
    _tell(dst, written)


@prepare.command()
def human36m(
    src: Annotated[Path, typer.Argument(help="Folder of the original download: archives, or unpacked.")],
    dst: Annotated[Path, typer.Argument(help="Folder to write: index, and one data set for each split.")],
    every: Annotated[int, typer.Option(min=1, help="Every n-th frame; 5 for the published numbers.")] = 5,
    boxes: Annotated[Literal["truth", "joints", "detector"], typer.Option(help="Where people are cut out.")] = "truth",
    side_px: Annotated[int, typer.Option(min=32, help="Side of the crops.")] = 384,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Human3.6M, from its original files."""
    from tripose.verbs.prepare_human36m import prepare_human36m

    with progress(dst.name) as step:
        written = prepare_human36m(
            src, dst, every=every, boxes=boxes, side_px=side_px, workers=workers, progress=step, say=_room
        )
    _tell(dst, written)


@prepare.command()
def panoptic(
    src: Annotated[Path, typer.Argument(help="Folder with one folder a sequence, as downloaded.")],
    dst: Annotated[Path, typer.Argument(help="Folder to write: index, and one data set for each split.")],
    protocol: Annotated[
        Literal["single-person", "multi-person"], typer.Option(help="Sequences, cameras and people that count.")
    ] = "single-person",
    boxes: Annotated[Literal["joints", "detector"], typer.Option(help="Where people are cut out.")] = "joints",
    side_px: Annotated[int, typer.Option(min=32, help="Side of the crops.")] = 384,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """CMU Panoptic, from its original files."""
    from tripose.verbs.prepare_panoptic import prepare_panoptic

    with progress(dst.name) as step:
        written = prepare_panoptic(
            src, dst, protocol=protocol, boxes=boxes, side_px=side_px, workers=workers, progress=step, say=_room
        )
    _tell(dst, written)


def _room(text: str) -> None:
    say("prepare", text)


def _tell(dst: Path, written: dict[str, int]) -> None:
    for split, n in written.items():
        console.print(f"{dst / split}: {n} samples", highlight=False, soft_wrap=True)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint, .pth or .pth.tar.")],
    model: Annotated[Path, typer.Argument(help="Folder to write.")],
    config: Annotated[Path, typer.Option(help="The published experiment file (YAML) of the checkpoint.")],
) -> None:
    """Make a model of this library from published weights."""
    from tripose.verbs.convert import convert as make

    made = make(checkpoint, model, config)
    console.print(f"{model}: {made.method}, {made.skeleton}, {made.backbone}", highlight=False, soft_wrap=True)


@app.command()
def fit_detector(
    recordings: Annotated[list[Path], typer.Argument(help="Folders of calibration and videos (or 2D keypoints).")],
    out: Annotated[Path, typer.Option(help="YAML file to write.")] = Path("detector.yaml"),
    keypoints: Annotated[Path | None, typer.Option(help="Folder of 2D keypoints to use.")] = None,
    skeleton: Annotated[str | None, typer.Option(help="Skeleton of the keypoints, e.g. body25b.")] = None,
) -> None:
    """Measure how bad a detector is on recordings with three views or more, for training fusion on its errors."""
    from tripose.recording import Recording
    from tripose.verbs.fit_detector import fit_detector as fit

    opened = [Recording.open(path, keypoints=keypoints, skeleton=skeleton) for path in recordings]
    with progress("measuring") as step:
        noise = fit(opened, out, progress=step)
    said = f"usual error {1000 * noise.sigma[0]:.2g} to {1000 * noise.sigma[1]:.2g} mm, of somebody of 1.75 m"
    console.print(f"{said}; {out}", highlight=False, soft_wrap=True)


@app.command()
def onnx(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    out: Annotated[Path, typer.Argument(help="File to write, NAME.onnx.")],
    skeleton: Annotated[str, typer.Option(help="Joints of the detector, for a fusion model.")] = "coco17",
) -> None:
    """Write a model as an ONNX graph with any number of views, checked against the model."""
    from tripose.models.weights import is_fusion
    from tripose.skeleton import skeleton_named
    from tripose.verbs.onnx import export_onnx

    if is_fusion(model):
        from tripose.verbs.onnx_fusion import export_fusion

        metres = export_fusion(model, skeleton_named(skeleton), out)
        console.print(f"{out}: differs from torch by at most {1000 * metres:.2g} mm", highlight=False, soft_wrap=True)
        return
    apart = export_onnx(model, out)
    units = {"keypoints_mm": "mm", "keypoints_px": "px"}
    said = ", ".join(f"{apart[name]:.2g} {unit}" for name, unit in units.items() if name in apart)
    console.print(f"{out}: differs from torch by at most {said}", highlight=False, soft_wrap=True)


@app.command()
def bench(
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file, too.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Measure speed against the slow twins of the tests (needs a clone of the repository)."""
    import torch
    from rich.table import Table

    from tripose.verbs.bench import bench as measure
    from tripose.verbs.bench import machine

    if as_json is not None and not as_json.parent.is_dir():
        raise TriposeError(f"{as_json} cannot be written: there is no folder {as_json.parent}")
    torch.set_num_threads(threads)
    rows = measure(lambda name: say("measuring", name))
    table = Table("", "ratio", "ours", "twin", "input", "result")
    for row in rows:
        seconds = (f"{row['seconds']:.4g} s", f"{row['twin_s']:.4g} s")
        table.add_row(row["name"], f"{row['ratio']:.3g}", *seconds, row["what"], row["note"])
    console.print(machine(), highlight=False, soft_wrap=True)
    console.print(table)
    if as_json is not None:
        as_json.write_text(json.dumps({"machine": machine(), "threads": threads, "rows": rows}, indent=2))
