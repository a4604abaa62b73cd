"""What of Human3.6M lies on the disk: unpacked files, archives still to unpack, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tripose.data.human36m.protocol import CAMERAS, MISSING_VIEWS, SCENES, SUBJECTS, original_name, original_names
from tripose.errors import TriposeError

# Folders down to which subjects, archives and metadata.xml are looked for.
_DEPTH = 3
# So many missing files are named.
_NAMED = 3
_METADATA = "metadata.xml"

FileKey = tuple[str, str]
"""Scene and camera of a file; the camera of poses is ""."""


@dataclass(frozen=True)
class Kind:
    """A kind of original files.

    Attributes:
        what: for messages.
        folders: below that of a subject; first that of the archives, then that of the usual script for unpacking.
        suffix: of a file.
        cameras: those that have a file of their own.
        archive: name of the archive of a subject.
    """

    what: str
    folders: tuple[str, ...]
    suffix: str
    cameras: tuple[str, ...]
    archive: str

    def file(self, name: str, camera: str) -> str:
        """The file of what `original_name` says."""
        return f"{name}.{camera}{self.suffix}" if camera else f"{name}{self.suffix}"


POSES = Kind(
    "files of 3D poses",
    ("MyPoseFeatures/D3_Positions", "Poses_D3_Positions"),
    ".cdf",
    ("",),
    "Poses_D3_Positions_{}.tgz",
)
VIDEOS = Kind("videos", ("Videos",), ".mp4", CAMERAS, "Videos_{}.tgz")
BOXES = Kind("files of boxes", ("MySegmentsMat/ground_truth_bb",), ".mat", CAMERAS, "Segments_mat_gt_bb_{}.tgz")
KINDS = (POSES, VIDEOS, BOXES)


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene.

    Attributes:
        subject: ``S1``.
        scene: ``Directions-1``.
        poses: CDF file of 3D poses.
        videos: by camera; at least one.
        boxes: by camera; MAT files, may be none.
    """

    subject: str
    scene: str
    poses: Path
    videos: Mapping[str, Path]
    boxes: Mapping[str, Path]

    @property
    def name(self) -> str:
        """``S1/Directions-1``."""
        return f"{self.subject}/{self.scene}"


@dataclass(frozen=True)
class Archive:
    """An archive with files that are not unpacked yet.

    Attributes:
        path: the archive.
        subject: ``S1``.
        kind: of its files.
        wanted: names of the files that are not there yet.
    """

    path: Path
    subject: str
    kind: Kind
    wanted: frozenset[str]


@dataclass(frozen=True)
class Originals:
    """What there is of Human3.6M.

    Attributes:
        metadata: the file with the cameras, None when it is missing.
        scenes: unpacked, with poses and at least one video; in the order of the protocol.
        archives: still to unpack.
        missing: a sentence on everything that neither files nor archives have.
    """

    metadata: Path | None
    scenes: tuple[SceneFiles, ...]
    archives: tuple[Archive, ...]
    missing: tuple[str, ...]


def find_originals(*folders: Path) -> Originals:
    """Look for the original files of Human3.6M.

    Known are the unpacked tree (``S1/MyPoseFeatures/D3_Positions/Directions 1.cdf``,
    ``S1/Videos/Directions 1.54138969.mp4``, ``S1/MySegmentsMat/ground_truth_bb/Directions 1.54138969.mat``), the
    archives (``Poses_D3_Positions_S1.tgz``, ``Videos_S1.tgz``, ``Segments_mat_gt_bb_S1.tgz``) and ``metadata.xml``,
    each in a folder or up to three further down. Archives are not looked into. Empty files count as missing.

    Args:
        folders: a file is taken from the first that has it; folders that do not exist are passed over.

    Raises:
        TriposeError: there is nothing of Human3.6M in them.
    """
    places = [place for folder in folders if folder.is_dir() for place in _places(folder, _DEPTH)]
    metadata = _first(places, _METADATA)
    scenes: list[SceneFiles] = []
    archives: list[Archive] = []
    missing: list[str] = []
    if metadata is None:
        missing.append(f"there is no {_METADATA}, which has the cameras; it is in the data set's code release")
    absent_subjects = []
    for subject in SUBJECTS:
        files = {kind: _files(places, subject, kind) for kind in KINDS}
        packed = {kind: _first(places, kind.archive.format(subject)) for kind in KINDS}
        if not any(files.values()) and not any(packed.values()):
            absent_subjects.append(subject)
            continue
        for kind in KINDS:
            absent = [key for key in _expected(subject, kind) if key not in files[kind]]
            names = [kind.file(original_name(subject, scene), camera) for scene, camera in absent]
            archive = packed[kind]
            if absent and archive is not None:
                archives.append(Archive(archive, subject, kind, frozenset(names)))
            elif absent:
                missing.append(_told(subject, kind, names, bool(files[kind])))
        scenes += _scenes(subject, files[POSES], files[VIDEOS], files[BOXES])
    if len(absent_subjects) == len(SUBJECTS):
        raise TriposeError(
            f"{folders[0]}: there is nothing of Human3.6M here; expected are its archives such as"
            f" {POSES.archive.format('S1')}, or folders such as S1/{POSES.folders[0]}"
        )
    if absent_subjects:
        missing.append(f"there is nothing of {', '.join(absent_subjects)}")
    return Originals(metadata, tuple(scenes), tuple(archives), tuple(missing))


def _places(folder: Path, depth: int) -> Iterator[Path]:
    """A folder and those in it, the higher ones first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [Path(e) for up in level for e in sorted(os.scandir(up), key=lambda e: e.name) if e.is_dir()]


def _first(places: Sequence[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _expected(subject: str, kind: Kind) -> list[FileKey]:
    """All files that Human3.6M has."""
    keys = [(scene, camera) for scene in SCENES for camera in kind.cameras]
    return [key for key in keys if (subject, *key) not in MISSING_VIEWS]


def _files(places: Sequence[Path], subject: str, kind: Kind) -> dict[FileKey, Path]:
    """Those of them that are here."""
    there: dict[str, Path] = {}
    for place in places:
        for folder in kind.folders:
            if place.name == subject and (place / folder).is_dir():
                for entry in os.scandir(place / folder):
                    if entry.is_file() and entry.stat().st_size:
                        there.setdefault(entry.name, Path(entry))
    found: dict[FileKey, Path] = {}
    for scene, camera in _expected(subject, kind):
        for name in original_names(subject, scene):
            if (file := kind.file(name, camera)) in there:
                found.setdefault((scene, camera), there[file])
    return found


def _scenes(
    subject: str, poses: Mapping[FileKey, Path], videos: Mapping[FileKey, Path], boxes: Mapping[FileKey, Path]
) -> Iterator[SceneFiles]:
    for scene in SCENES:
        films = {camera: videos[scene, camera] for camera in CAMERAS if (scene, camera) in videos}
        masks = {camera: boxes[scene, camera] for camera in CAMERAS if (scene, camera) in boxes}
        if (scene, "") in poses and films:
            yield SceneFiles(subject, scene, poses[scene, ""], films, masks)


def _told(subject: str, kind: Kind, names: Sequence[str], some: bool) -> str:
    if not some:
        return f"{subject}: there are no {kind.what}; they come in {kind.archive.format(subject)}"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{subject}: {len(names)} {kind.what} are missing: {', '.join(names[:_NAMED])}{more}"
