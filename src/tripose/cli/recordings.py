"""From recordings to poses, files and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tripose.cli.common import app, console, progress, say
from tripose.errors import TriposeError

if TYPE_CHECKING:
    from tripose.recording import Recording

Method = Literal["auto", "dlt", "ransac", "irls", "fusion", "algebraic", "volumetric"]
Unit = Literal["mm", "cm", "m"]
Up = Literal["x", "y", "z", "-x", "-y", "-z"]
CalibrationOption = Annotated[Path | None, typer.Option(help="Calibration file, instead of the one in the folder.")]
KeypointsOption = Annotated[Path | None, typer.Option(help="Folder of 2D keypoints to use instead of the detector.")]
SkeletonOption = Annotated[str | None, typer.Option(help="Skeleton of the keypoints, e.g. body25b.")]
UnitOption = Annotated[Unit | None, typer.Option(help="Length unit of the calibration, if not its format's usual one.")]


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo")) -> None:
    """Bring the sample recording and go from its videos to poses, files, overlays and a report."""
    from tripose.verbs.demo import demo as run
    from tripose.verbs.summary import summary_tables

    with progress("balancing") as step:
        poses = run(out, step)
    for table in summary_tables(poses):
        console.print(table)
    console.print(
        f"files in {out}: {', '.join(sorted(p.name for p in out.iterdir()))}", highlight=False, soft_wrap=True
    )


@app.command()
def check(
    recording: Annotated[Path, typer.Argument(help="Folder of calibration and videos (or 2D keypoints).")],
    calibration: CalibrationOption = None,
    keypoints: KeypointsOption = None,
    skeleton: SkeletonOption = None,
    unit: UnitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Do cameras, videos and keypoints belong together? Exit code 0 = sound, 1 = problems, each with its cause."""
    from tripose.diagnosis import Finding
    from tripose.verbs.check import check as look_over
    from tripose.verbs.check import is_sound

    try:
        opened = _open(recording, calibration, keypoints, skeleton, unit)
        findings = look_over(opened)
    except TriposeError as error:
        findings = [Finding("bad", str(error))]
    if as_json:
        print(json.dumps({"sound": is_sound(findings), "findings": [f._asdict() for f in findings]}, indent=2))
    else:
        styles = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "bad": "[red]bad [/]"}
        for finding in findings:
            console.print(styles[finding.level], end=" ")
            console.print(finding.text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if is_sound(findings) else 1)


@app.command()
def predict(
    recordings: Annotated[list[Path], typer.Argument(help="Folders of calibration and videos (or 2D keypoints).")],
    method: Annotated[
        Method,
        typer.Option(help="How to triangulate; auto: by the model that ships for videos, or for keypoints."),
    ] = "auto",
    model: Annotated[str | None, typer.Option(help="A model to use instead: folder or shipped name.")] = None,
    min_views: Annotated[int, typer.Option(min=2, help="Agreeing views that make a joint (dlt, ransac, irls).")] = 2,
    height_mm: Annotated[
        float | None, typer.Option(min=300, max=2500, help="Height of the person, for a single camera.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    calibration: CalibrationOption = None,
    keypoints: KeypointsOption = None,
    skeleton: SkeletonOption = None,
    unit: UnitOption = None,
    shard: Annotated[str | None, typer.Option(help="i/n: only every n-th recording, from the i-th (0-based).")] = None,
) -> None:
    """Triangulate the person in each recording; writes NAME.nc. Can be interrupted and repeated."""
    from tripose.verbs.predict import predict as triangulate_recording
    from tripose.verbs.summary import summary_tables

    names = [p.resolve().name for p in recordings]
    doubles = sorted({n for n in names if names.count(n) > 1})
    if doubles:
        raise TriposeError(f"several recordings have the same name {doubles[0]!r}, and so would their results in {out}")
    failed = 0
    for path in recordings[_shard(shard)]:
        try:
            opened = _open(path, calibration, keypoints, skeleton, unit)
            for said in opened.warnings:
                say("warning", said)
            with progress(opened.name) as step:
                poses = triangulate_recording(
                    opened, method=method, model=model, min_views=min_views, height_mm=height_mm, out=out, progress=step
                )
        except TriposeError as error:
            say("error", str(error))
            failed += 1
            continue
        for table in summary_tables(poses):
            console.print(table)
        console.print(str(out / f"{opened.name}.nc"), highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(2)


@app.command()
def export(
    poses: Annotated[Path, typer.Argument(help="Poses, NAME.nc.")],
    to: Annotated[Path, typer.Option(help="File to write: .trc .c3d .csv .parquet .json .nc")],
    up: Annotated[Up | None, typer.Option(help="Axis that points up in the file; default y for TRC.")] = None,
    unit: Annotated[Literal["mm", "m"] | None, typer.Option(help="Length unit of a TRC file (default m).")] = None,
    person: Annotated[str | None, typer.Option(help="Write only this person.")] = None,
) -> None:
    """Write poses for other programs; the suffix says which format."""
    from tripose.formats.export import export as write
    from tripose.pose import Pose3D

    for path in write(Pose3D.load(poses), to, up=up, unit=unit, person=person):
        console.print(str(path), highlight=False, soft_wrap=True)


@app.command()
def view(
    poses: Annotated[Path, typer.Argument(help="Poses, NAME.nc.")],
    recording: Annotated[Path | None, typer.Option(help="Recording, for its cameras and videos.")] = None,
    calibration: CalibrationOption = None,
    unit: UnitOption = None,
    html: Annotated[Path | None, typer.Option(help="Write a report that plays the motion.")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Folder for videos with the skeleton drawn in.")] = None,
    rrd: Annotated[Path | None, typer.Option(help="Write a file for the rerun viewer.")] = None,
) -> None:
    """Look at poses: a report (default NAME.html), overlay videos, or a file for rerun."""
    from tripose.pose import Pose3D
    from tripose.recording import Recording
    from tripose.verbs.view import view as show

    loaded = Pose3D.load(poses)
    opened = Recording.open(recording, calibration=calibration, unit=unit) if recording else None
    targets = [t for t in (html, overlay, rrd) if t] or [poses.with_suffix(".html")]
    for target in targets:
        for path in show(loaded, opened, target):
            console.print(str(path), highlight=False, soft_wrap=True)


def _open(
    path: Path, calibration: Path | None, keypoints: Path | None, skeleton: str | None, unit: Unit | None
) -> Recording:
    from tripose.recording import Recording

    return Recording.open(path, calibration=calibration, keypoints=keypoints, skeleton=skeleton, unit=unit)


def _shard(said: str | None) -> slice:
    if said is None:
        return slice(None)
    parts = said.split("/")
    if len(parts) == 2 and all(p.isdigit() for p in parts) and int(parts[0]) < int(parts[1]):
        return slice(int(parts[0]), None, int(parts[1]))
    raise TriposeError(f"--shard is {said!r}; expected i/n with 0 <= i < n, for example 0/4")
