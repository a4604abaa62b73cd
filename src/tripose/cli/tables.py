"""How good methods are, on data sets and detections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tripose.cli.common import app, console, progress, say
from tripose.errors import TriposeError

if TYPE_CHECKING:
    from tripose.evaluation.tables import Tables


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
        str, typer.Option(help="Methods on the first model's keypoints or on detections, or none.")
    ] = "dlt,ransac,irls,fusion",
    every: Annotated[int, typer.Option(min=1, help="Only every n-th row of a stored data set.")] = 1,
    labels: Annotated[
        Path | None,
        typer.Option(help="Truth of results.pkl, human36m-multiview-labels-*.npy; of .nc files, an index."),
    ] = None,
    exact: Annotated[bool, typer.Option(help="Networks in float32, even where bfloat16 is faster.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for predictions, tables and plots.")] = Path("out/evaluation"),
) -> None:
    """Errors of models, of triangulated keypoints of the first one or of a data set, and of predictions."""
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
        return _errors(_evaluate_index(files[0], models or [], out, classical, views), out)
    if all(file.suffix == ".npz" for file in files):
        from tripose.verbs.evaluate import evaluate_again

        return _errors(evaluate_again(files, out), out)
    if len(data) > 1:
        raise TriposeError("several data sets are given; evaluate one at a time, or their predictions.npz together")
    return _errors(_evaluate_models(data[0], models or [], out, classical, views, every, exact), out)


def _evaluate_index(index: Path, models: list[str], out: Path, classical: str, views: str) -> Tables:
    from tripose.evaluation.choices import parse_choices
    from tripose.verbs.evaluate import evaluate_index, parse_classical, parse_models

    methods, named, choices = parse_classical(classical), parse_models(models), parse_choices(views)
    with progress("evaluating") as step:
        return evaluate_index(index, out, classical=methods, models=named, views=choices, progress=step)


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
