"""Data sets, training, evaluation and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tripose.cli.common import app, console, progress, say
from tripose.errors import TriposeError, missing_extra

if TYPE_CHECKING:
    from tripose.evaluation.tables import Tables

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
def evaluate(
    data: Annotated[
        list[str],
        typer.Argument(
            help="synth-bench, a stored data set (tripose synth, tripose prepare), an index with detections, "
            "predictions.npz files, results.pkl of the published code, or poses of several people, one .nc a scene."
        ),
    ],
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Model: folder or shipped name; NAME=FOLDER names it in the tables."),
    ] = None,
    views: Annotated[
        str, typer.Option(help="all, pairs, a number of cameras, names as left+right; commas between.")
    ] = "all",
    classical: Annotated[
        str, typer.Option(help="Classical methods on the first model's keypoints, or none.")
    ] = "dlt,ransac,irls",
    every: Annotated[int, typer.Option(min=1, help="Only every n-th row of a stored data set.")] = 1,
    labels: Annotated[
        Path | None,
        typer.Option(help="Truth of results.pkl, human36m-multiview-labels-*.npy; of .nc files, an index."),
    ] = None,
    exact: Annotated[bool, typer.Option(help="Networks in float32, even where bfloat16 is faster.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for predictions, tables and plots.")] = Path("out/evaluation"),
) -> None:
    """Errors of models, and of dlt, ransac and irls on the first model's keypoints or on detections; of predictions."""
    from tripose.data.scenes import is_index

    files = [Path(path) for path in data]
    if labels is not None and files[0].suffix not in (".pkl", ".nc"):
        raise TriposeError(f"--labels belongs to results.pkl of the published code or to .nc; {data[0]} has a truth")
    if len(data) == 1 and files[0].suffix == ".pkl":
        from tripose.verbs.evaluate import evaluate_results

        return _errors(evaluate_results(files[0], labels, out, every=every), out)
    if every > 1 and not files[0].is_dir():
        raise TriposeError(f"--every {every} takes rows of a stored data set or of results.pkl, which {data[0]} is not")
    if files[0].suffix == ".nc":
        if models:
            raise TriposeError(f"{data[0]} holds poses; models look at images, so leave out --model")
        return _people(files, labels, out)
    if len(data) == 1 and is_index(files[0]):
        if models:
            raise TriposeError(f"{data[0]} holds detections; models look at the crops beside an index")
        return _errors(_evaluate_index(files[0], out, classical, views), out)
    if all(file.suffix == ".npz" for file in files):
        from tripose.verbs.evaluate import evaluate_again

        return _errors(evaluate_again(files, out), out)
    if len(data) > 1:
        raise TriposeError("several data sets are given; evaluate one at a time, or their predictions.npz together")
    return _errors(_evaluate_models(data[0], models or [], out, classical, views, every, exact), out)


def _evaluate_index(index: Path, out: Path, classical: str, views: str) -> Tables:
    from tripose.evaluation.choices import parse_choices
    from tripose.verbs.evaluate import evaluate_index, parse_classical

    methods, choices = parse_classical(classical), parse_choices(views)
    with progress("evaluating") as step:
        return evaluate_index(index, out, classical=methods, views=choices, progress=step)


def _evaluate_models(
    data: str, models: list[str], out: Path, classical: str, views: str, every: int, exact: bool
) -> Tables:
    import torch

    from tripose.data.joints import TRANSFER_JOINTS
    from tripose.evaluation.choices import parse_choices
    from tripose.evaluation.transfer import Transferred
    from tripose.models.weights import load_model
    from tripose.verbs.evaluate import evaluate as run
    from tripose.verbs.evaluate import open_stored, parse_classical, parse_models

    named = parse_models(models)
    if not named:
        raise TriposeError("no model is given: --model NAME, for example --model algebraic-synthetic")
    baselines, dtype = parse_classical(classical), torch.float32 if exact else None
    if data == "synth-bench":
        from tripose.verbs.synth_bench import evaluate_bench  # needs an extra, which stored data sets do not

        with progress("synth-bench") as step:
            return evaluate_bench(named, out, classical=baselines, dtype=dtype, progress=step)
    joints = load_model(next(iter(named.values()))).config.joints
    samples = open_stored(data, joints)
    if isinstance(samples, Transferred):
        other = samples.samples.skeleton.name
        say("evaluate", f"{data} has no {joints.name}: {len(TRANSFER_JOINTS)} joints are compared with {other}")
    rows, about = range(0, len(samples), every), {"data": data, "views": views, "every": str(every)}
    with progress("evaluating") as step:
        return run(
            named,
            samples,
            out,
            classical=baselines,
            views=parse_choices(views),
            rows=rows,
            dtype=dtype,
            about=about,
            progress=step,
        )


def _people(results: list[Path], labels: Path | None, out: Path) -> None:
    from tripose.evaluation.people import people_cells
    from tripose.verbs.evaluate_people import evaluate_people

    _show(people_cells(evaluate_people(results, labels, out, say=lambda text: say("evaluate", text))), out)


def _errors(tables: Tables, out: Path) -> None:
    from tripose.evaluation.markdown import error_cells

    _show(error_cells(tables["by_group"]), out)


def _show(cells: list[list[str]], out: Path) -> None:
    from rich.table import Table

    head, *rows = cells
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(str(out / "report.md"), highlight=False, soft_wrap=True)


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
def onnx(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    out: Annotated[Path, typer.Argument(help="File to write, NAME.onnx.")],
) -> None:
    """Write a model as an ONNX graph with any number of views, checked against the model."""
    from tripose.verbs.onnx import export_onnx

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
