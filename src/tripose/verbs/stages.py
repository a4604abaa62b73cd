"""The files of a stage: a finished one is not repeated, and an interrupted one goes on where its pieces end."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from tripose import __version__
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.recording import Recording

T = TypeVar("T")

PIECE_FRAMES = 250
"""Frames between two saves of an unfinished run."""


def read_pieces(folder: Path) -> list[dict[str, np.ndarray]]:
    """The pieces that an interrupted run left, in order; those from a damaged one on are made again."""
    pieces = []
    for path in sorted(folder.glob("[0-9]*.npz")):
        try:
            with np.load(path, allow_pickle=False) as piece:
                pieces.append({name: piece[name] for name in piece.files})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            break  # cut off by a full disk or a power failure
    return pieces


def write_piece(folder: Path, first_frame: int, **arrays: np.ndarray) -> None:
    """Keep a piece."""
    with atomic(folder / f"{first_frame:09d}.npz", ".npz") as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def in_pieces(items: Iterable[T]) -> Iterator[list[T]]:
    """Up to `PIECE_FRAMES` items at a time."""
    rest = iter(items)
    while some := list(itertools.islice(rest, PIECE_FRAMES)):
        yield some


def finished(path: Path | None, read: Callable[[Path], T]) -> T | None:
    """A result of an earlier run; None when there is none or it cannot be read."""
    try:
        return read(path) if path is not None and path.exists() else None
    except TriposeError:
        return None


def make_folder(path: Path) -> None:
    """Make an output folder.

    Raises:
        TriposeError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise TriposeError(f"{path}: the output folder cannot be written: {error.strerror or error}") from error


def fingerprint(recording: Recording, *options: object) -> str:
    """A short hash of what a result depends on: the cameras, the input files' names, sizes and times, the options."""
    calibration = recording.calibration
    files = [calibration, *(sorted(calibration.glob("*tri.yml")) if calibration.is_dir() else [])]
    for source in (recording.videos or recording.keypoints).values():
        files += [source, *(sorted(source.iterdir()) if source.is_dir() else [])]
    stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    cameras = recording.cameras
    rig = [getattr(cameras, part).tolist() for part in ("K", "R", "t", "distortion", "size_px")]
    meant = (cameras.names, cameras.lens, cameras.up, recording.skeleton, recording.frame_rate)
    said = (__version__, rig, meant, dict(recording.rotate_deg), stamps, options)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]
