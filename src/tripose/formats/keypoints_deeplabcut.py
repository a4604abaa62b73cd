"""Keypoints of DeepLabCut: its CSV, and its HDF5 table read with nothing unpickled."""

from __future__ import annotations

import csv
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tripose.errors import TriposeError
from tripose.formats.keypoints_names import skeleton_from_names
from tripose.formats.keypoints_people import frame_count, frame_number
from tripose.skeleton import Skeleton

Column = tuple[str, ...]
"""scorer, (individual,) body part, coordinate"""
Table = tuple[list[Column], list[str], Float[np.ndarray, "row column"]]
Tracks = tuple[Float[np.ndarray, "time person joint 3"], Skeleton]

_COORDINATES = ("x", "y", "likelihood")
_AS_CSV = "DeepLabCut writes the same table as CSV: read that"


def tracks_from_deeplabcut(path: Path, skeleton: Skeleton | None) -> Tracks:
    """Read a table of DeepLabCut, of one or several animals.

    Joints take our names where they are body joints (see `joint_name`). Rows are numbered by their index, a number or
    the last group of digits of an image name, and frames count from the lowest. Labels, which have no likelihood, get
    the score 1.

    Args:
        path: ``.csv`` or ``.h5``.
        skeleton: its joints are picked by name, and those that the file lacks are missing; None means the joints of
            the file.

    Returns:
        x, y (px) and score, and the skeleton.

    Raises:
        TriposeError: another layout, no joint of the skeleton, two rows of one frame.
    """
    columns, index, values = _table_from_csv(path) if path.suffix.lower() == ".csv" else _table_from_hdf(path)
    if not index:
        raise TriposeError("the table holds no frame")
    people = list(dict.fromkeys(c[1] if len(c) == 4 else "" for c in columns))
    parts = list(dict.fromkeys(c[-2] for c in columns))
    strange = sorted({c[-1] for c in columns} - set(_COORDINATES))
    if strange:
        raise TriposeError(f"the table has a coordinate {strange[0]!r}; expected x, y and likelihood of one view")
    if len({c[1:] for c in columns}) < len(columns):
        raise TriposeError("the table has a column twice, perhaps of two scorers")
    frames = [frame_number(i) for i in index]
    if len(set(frames)) < len(frames):
        raise TriposeError(f"two rows of the table are frame {max(frames, key=frames.count)}")
    data = np.full((frame_count(frames, min(frames)), len(people), len(parts), 3), np.nan)
    rows = np.array(frames) - min(frames)
    if "likelihood" not in {c[-1] for c in columns}:
        data[..., 2] = 1.0
    for column, series in zip(columns, values.T, strict=True):
        person = people.index(column[1]) if len(column) == 4 else 0
        data[rows, person, parts.index(column[-2]), _COORDINATES.index(column[-1])] = series
    own = skeleton_from_names("deeplabcut", parts)
    return (data, own) if skeleton is None else (_picked(data, own, skeleton), skeleton)


def _picked(
    data: Float[np.ndarray, "time person part 3"], own: Skeleton, wanted: Skeleton
) -> Float[np.ndarray, "time person joint 3"]:
    shared = [j for j in wanted.joints if j in own.joints]
    if not shared:
        raise TriposeError(f"none of the joints {', '.join(own.joints)} belongs to skeleton {wanted.name!r}")
    picked = np.full((*data.shape[:2], len(wanted), 3), np.nan)
    picked[:, :, wanted.indices(shared)] = data[:, :, own.indices(shared)]
    return picked


def _table_from_csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TriposeError(f"it cannot be read as CSV in UTF-8 ({error})") from None
    levels = next((i + 1 for i, row in enumerate(rows[:5]) if row[0] == "coords"), 0)
    if levels not in (3, 4) or rows[0][0] != "scorer":
        raise TriposeError("no DeepLabCut table: its first rows are scorer, (individuals,) bodyparts and coords")
    start = next((i for i, cell in enumerate(rows[levels - 1]) if cell in _COORDINATES), 1)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise TriposeError(f"row {number} has {len(row)} cells, but the first one has {len(rows[0])}")
    columns = list(zip(*(row[start:] for row in rows[:levels]), strict=True))
    body = rows[levels:]
    try:
        values = np.array([[float(cell or "nan") for cell in row[start:]] for row in body])
    except ValueError as error:
        raise TriposeError(f"a cell is no number ({error})") from None
    return columns, [row[start - 1] for row in body], values.reshape(len(body), len(columns))


def _table_from_hdf(path: Path) -> Table:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            groups = [g for g in file.values() if isinstance(g, h5py.Group) and "pandas_type" in g.attrs]
            if len(groups) != 1:
                raise TriposeError(f"the HDF5 file holds {len(groups)} pandas tables, expected one of DeepLabCut")
            return _appendable(groups[0]) if "table" in groups[0] else _fixed(groups[0])
    except TriposeError:
        raise
    except (OSError, RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise TriposeError(f"no HDF5 table of DeepLabCut ({error}); {_AS_CSV}") from None


def _appendable(group: Any) -> Table:
    """The layout of ``to_hdf(format="table")``: rows of blocks, column names in a pickled attribute."""
    table = group["table"]
    rows = table[()]
    if rows.dtype["index"].kind not in "iuS":
        raise TriposeError(f"the rows of the table are not numbered; {_AS_CSV}")
    columns: list[Column] = []
    blocks = []
    for block in (name for name in rows.dtype.names if name.startswith("values_block_")):
        columns += _text_tuples(bytes(table.attrs[f"{block}_kind"]))
        blocks.append(_floats(rows[block]).reshape(len(rows), -1))
    return columns, [_text(i) for i in rows["index"]], np.concatenate(blocks, axis=1)


def _fixed(group: Any) -> Table:
    """The layout of ``to_hdf(format="fixed")``: plain arrays; text that pandas would have pickled is refused."""
    columns: list[Column] = []
    blocks = []
    for i in range(int(group.attrs["nblocks"])):
        columns += list(zip(*_levels(group, f"block{i}_items"), strict=True))
        blocks.append(_floats(group[f"block{i}_values"][()]))
    index = _levels(group, "axis1")[-1] if "axis1_nlevels" in group.attrs else map(_text, _plain(group["axis1"]))
    return columns, list(index), np.concatenate(blocks, axis=1)


def _levels(group: Any, axis: str) -> list[list[str]]:
    count = int(group.attrs[f"{axis}_nlevels"])
    names = [[_text(v) for v in _plain(group[f"{axis}_level{i}"])] for i in range(count)]
    return [[names[i][code] for code in group[f"{axis}_label{i}"][()]] for i in range(count)]


def _plain(dataset: Any) -> Any:
    if dataset.dtype.kind not in "iuS":
        raise TriposeError(f"{dataset.name} holds pickled objects, which are not read; {_AS_CSV}")
    return dataset[()]


def _floats(array: Any) -> Float[np.ndarray, "*shape"]:
    if array.dtype.kind not in "fiu":
        raise TriposeError(f"the table has columns that are not numbers; {_AS_CSV}")
    values: Float[np.ndarray, "*shape"] = array.astype(np.float64)
    return values


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _text_tuples(pickled: bytes) -> Sequence[Column]:
    """A pickled list of tuples of text, without unpickling: its few opcodes are followed, any other is refused."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    mark = object()
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            match opcode.name:
                case "MARK":
                    stack.append(mark)
                case "UNICODE" | "STRING":
                    stack.append(argument)
                case "LIST" | "TUPLE":
                    start = len(stack) - 1 - stack[::-1].index(mark)
                    stack[start:] = [(list if opcode.name == "LIST" else tuple)(stack[start + 1 :])]
                case "APPEND":
                    stack[-2].append(stack.pop())
                case "PUT":
                    memo[argument] = stack[-1]
                case "GET":
                    stack.append(memo[argument])
                case "STOP":
                    break
                case other:
                    raise TriposeError(f"the column names hold pickled objects ({other}), never read; {_AS_CSV}")
        result: Sequence[Column] = stack.pop()
    except TriposeError:
        raise
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise TriposeError(f"the column names cannot be read ({error}); {_AS_CSV}") from None
    columns = result if isinstance(result, list) else [None]
    if not all(isinstance(c, tuple) and len(c) in (3, 4) and all(isinstance(t, str) for t in c) for c in columns):
        raise TriposeError("no DeepLabCut table: a column is not (scorer, body part, coordinate)")
    return result
