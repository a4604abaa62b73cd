"""One HTML file that shows what a recording became and where it went wrong; it needs no network and no library."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from tripose.cameras import Cameras
from tripose.diagnosis import (
    Length,
    bone_label,
    bone_statistics,
    is_unequal,
    is_unsteady,
    missing_share,
    reprojection_by_camera,
    reprojection_by_joint,
    reprojection_table,
    side_of_bone,
    verdict,
)
from tripose.drawing.page_data import payload, up_axis
from tripose.formats.writing import atomic
from tripose.pose import Pose3D

_DASH = '<td class="none">&ndash;</td>'


def report(
    poses: Pose3D,
    path: Path,
    *,
    cameras: Cameras | None = None,
    summary: Mapping[str, str] | None = None,
    title: str = "",
) -> None:
    """Write a page with the moving skeleton, tables, time plots and a verdict in plain language.

    Args:
        poses: the poses, mm, world frame.
        path: the .html file; replaced at once when complete.
        cameras: the rig, drawn beside the people.
        summary: further facts for the head of the page: name -> text.
        title: heading; the file's name when empty.

    Raises:
        TriposeError: the file cannot be written.
    """
    path = Path(path)
    script = _asset("page.js")
    parts = {
        "title": escape(title or path.stem),
        "hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": _asset("page.css"),
        "script": script,
        "facts": _definitions(_facts(poses) | dict(summary or {})),
        "verdict": "".join(f'<li class="{f.level}">{escape(f.text)}</li>' for f in verdict(poses)),
        "scene_note": escape(_scene_note(poses, cameras)),
        "persons": "".join(f'<option value="{i}">{escape(p)}</option>' for i, p in enumerate(poses.persons)),
        "wide": "wide" if len(poses.views) > 6 else "",
        "joints": _joint_table(poses),
        "bones": "".join(_bone_table(poses, i) for i in range(len(poses.persons))),
        "notes": _definitions(poses.notes) or '<p class="none">No notes were recorded.</p>',
        "data": _json(payload(poses, cameras)),
    }
    # One pass over the template, so that nothing inside a value is ever taken for a placeholder.
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))
    with atomic(path) as part:
        part.write_text(page, encoding="utf-8", newline="\n")


def _asset(name: str) -> str:
    return files("tripose.drawing").joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    """Compact JSON that cannot end the script element which holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _facts(poses: Pose3D) -> dict[str, str]:
    frames = len(poses.position_mm)
    facts = {
        "Frames": f"{frames} at {poses.fps:g} fps",
        "Duration": f"{frames / poses.fps:.2f} s",
        "Skeleton": f"{poses.skeleton.name}, {len(poses.skeleton)} joints",
        "Persons": str(len(poses.persons)),
    }
    return facts | ({"Cameras": str(len(poses.views))} if poses.views else {})


def _definitions(pairs: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in pairs.items())


def _scene_note(poses: Pose3D, cameras: Cameras | None) -> str:
    up = up_axis(poses, cameras)
    axis = f"{up} points up" if up else "the up axis is not recorded, z is drawn upwards"
    return f"World frame, {axis}; grid of 500 mm."


def _joint_table(poses: Pose3D) -> str:
    """Joints by cameras: median reprojection error, and the share of missing positions."""
    share, by_camera, by_joint = missing_share(poses), reprojection_by_camera(poses), reprojection_by_joint(poses)
    if not by_camera:
        return _table(["joint", "missing"], [_row(j, [_heat(100 * v, 30.0, " %")]) for j, v in share.items()])
    table = reprojection_table(poses)
    finite = table[np.isfinite(table)]
    # The colour saturates at three times the overall median: a scale by the maximum would hide all but one cell.
    full = 3 * max(float(np.median(finite)), 0.1) if len(finite) else 1.0
    rows = []
    for joint, medians in zip(poses.skeleton.joints, table.T, strict=True):
        of_all = [_number(by_joint[joint].median, "total"), _number(by_joint[joint].p90)]
        rows.append(_row(joint, [*(_heat(m, full) for m in medians), *of_all, _heat(100 * share[joint], 30.0, " %")]))
    empty = "<td></td>" * 3
    rows.append(_row("all joints", [*(_number(e.median, "total") for e in by_camera.values()), empty], "sum"))
    rows.append(_row("90 % below", [*(_number(e.p90) for e in by_camera.values()), empty]))
    return _table(["joint", *by_camera, "all", "90 %", "missing"], rows)


def _bone_table(poses: Pose3D, person: int) -> str:
    """Mean and spread of every bone, left and right in one row, and by how much the left one is longer."""
    pairs: dict[str, dict[str, Length]] = {}
    for (a, b), bone in bone_statistics(poses, person).items():
        pairs.setdefault(bone_label(a, b), {})[side_of_bone(a, b)] = bone
    rows = []
    for label, sides in pairs.items():
        if "middle" in sides:
            rows.append(_row(label, [_length(sides["middle"], columns=2), "<td></td>"]))
            continue
        none = Length(np.nan, np.nan, 0)
        left, right = sides.get("left", none), sides.get("right", none)
        difference = _number(left.mean - right.mean, "warn" if is_unequal(left, right) else "", "+.1f")
        rows.append(_row(label, [_length(left), _length(right), difference]))
    whose = f"bone of {poses.persons[person]}" if len(poses.persons) > 1 else "bone"
    table = _table([whose, "left", "right", "left - right"], rows)
    return f'<div data-person="{person}">{table}</div>'


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(label: str, cells: Iterable[str], kind: str = "") -> str:
    return f'<tr class="{kind}"><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>'


def _number(value: float, kind: str = "", form: str = ".1f") -> str:
    return f'<td class="{kind}">{value:{form}}</td>' if np.isfinite(value) else _DASH


def _length(bone: Length, columns: int = 1) -> str:
    if not bone.n:
        return _DASH
    kind = "warn" if is_unsteady(bone) else ""
    return f'<td colspan="{columns}">{bone.mean:.0f} <span class="{kind}">± {bone.std:.1f}</span></td>'


def _heat(value: float, full: float, unit: str = "") -> str:
    if not np.isfinite(value):
        return _DASH
    return f'<td class="heat" style="--heat:{min(value / full, 1.0):.2f}">{value:.1f}{unit}</td>'
