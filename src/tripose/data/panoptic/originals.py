"""The original files of CMU Panoptic, as the toolbox's ``getData.sh`` and ``extractAll.sh`` leave them: what is there.

```
171204_pose1/calibration_171204_pose1.json
171204_pose1/hdPose3d_stage1_coco19.tar            or unpacked: hdPose3d_stage1_coco19/body3DScene_00000168.json
171204_pose1/hdVideos/hd_00_03.mp4                 or extracted: hdImgs/00_03/00_03_00000168.jpg
```

The number of a pose's file is that of its image, from 0: the toolbox extracts images with ``-start_number 0``
(scripts/hdImgsExtractor.sh), and its demo projects ``body3DScene_%08d`` into ``00_05_%08d.jpg`` of the same number
(python/demo_3Dkeypoints_reprojection_hd.py). No offset is reported between HD videos and poses; the one of two frames
that is (issues #12 and #15) is to the Kinects, which have clocks of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from tripose.cameras import Cameras
from tripose.data.panoptic.poses import POSES, pose_frames
from tripose.data.panoptic.protocol import DAMAGED_VIDEOS
from tripose.errors import TriposeError
from tripose.formats.calibration import read_calibration
from tripose.image_folder import IMAGE_SUFFIXES, numbered_images
from tripose.video import probe


@dataclass(frozen=True)
class PanopticSequence:
    """A sequence with poses and images.

    Attributes:
        name: of its folder.
        cameras: HD cameras that have images, of the whole images; mm, up is -y.
        sources: camera -> video, or folder of images where that is there.
        images: camera -> numbers of the frames that it has images of, ascending.
        poses: folder or archive.
        frame: numbers of the frames with a file of poses, ascending.
        problems: what is missing or cannot be used, a sentence each.
    """

    name: str
    cameras: Cameras
    sources: Mapping[str, Path]
    images: Mapping[str, Int[np.ndarray, " image"]]
    poses: Path
    frame: Int[np.ndarray, " frame"]
    problems: tuple[str, ...]

    def has_image(self, frame: Int[np.ndarray, " row"], cameras: Sequence[str]) -> Bool[np.ndarray, "row view"]:
        """Whether cameras have an image of frames."""
        return np.stack([np.isin(frame, self.images[name]) for name in cameras], 1)


def sequence_folders(source: Path, sequences: Sequence[str] | None = None) -> dict[str, Path]:
    """Sequences of a download by name; a folder of one sequence is a download of one.

    Args:
        source: a folder with a folder for each sequence.
        sequences: those wanted, as far as they are there; None: all.

    Raises:
        TriposeError: no such folder, or none of them in it.
    """
    if not source.is_dir():
        raise TriposeError(f"{source}: there is no such folder")
    places = [source] if _is_sequence(source) else sorted(p for p in source.iterdir() if p.is_dir() and _is_sequence(p))
    found = {place.resolve().name: place for place in places}
    wanted = {name: place for name, place in found.items() if sequences is None or name in sequences}
    if not found:
        raise TriposeError(
            f"{source} holds no sequence of CMU Panoptic; each has a folder with calibration_<sequence>.json,"
            f" {POSES}.tar or {POSES}/, and hdVideos/ or hdImgs/"
        )
    if not wanted:
        raise TriposeError(f"{source} holds {', '.join(found)}, and not {' or '.join(sequences or ())}")
    return wanted


def open_sequence(folder: Path, cameras: Sequence[str] | None = None) -> PanopticSequence:
    """Look at the files of a sequence; of each video the header is read, and a frame decoded.

    Args:
        folder: called as the sequence.
        cameras: those wanted; None: all HD cameras. Their order is that of the calibration.

    Raises:
        TriposeError: no calibration, no poses, no images, or a calibration or archive that cannot be read.
    """
    name = folder.resolve().name
    rig = read_calibration(_calibration(folder, name))
    poses = _poses(folder)
    frame = pose_frames(poses)
    wanted = rig.names if cameras is None else cameras
    problems, sources, images = [], {}, {}
    missing = [camera for camera in wanted if camera not in rig.names]
    if missing:
        problems.append(f"{folder}: the calibration has no HD camera {', '.join(missing)}")
    missing = []
    for camera in (c for c in rig.names if c in wanted):
        source = _images(folder, camera)
        if source is None:
            missing.append(camera)
            continue
        try:
            images[camera] = _numbers(source, rig.select([camera]))
            sources[camera] = source
        except TriposeError as error:
            known = DAMAGED_VIDEOS.get((name, camera))
            problems.append(f"{error}; it is known to be {known}" if known else str(error))
    if missing:
        problems.append(
            f"{folder}: no images of {', '.join(missing)}: neither hdVideos/hd_{missing[0]}.mp4 nor images in"
            f" hdImgs/{missing[0]}/"
        )
    problems += [_cut(sources[c], images[c], frame) for c in sources if images[c][-1] < frame[-1]]
    used = [camera for camera in sources if np.isin(frame, images[camera]).any()]
    if not used:
        raise TriposeError(f"{folder}: no camera has images that can be used ({'; '.join(problems)})")
    return PanopticSequence(
        name,
        rig.select(used),
        {camera: sources[camera] for camera in used},
        {camera: images[camera] for camera in used},
        poses,
        frame,
        tuple(problems),
    )


def _is_sequence(folder: Path) -> bool:
    parts = (f"calibration_{folder.resolve().name}.json", POSES, f"{POSES}.tar", "hdVideos", "hdImgs")
    return any((folder / part).exists() for part in parts)


def _calibration(folder: Path, name: str) -> Path:
    path = folder / f"calibration_{name}.json"
    if not path.is_file():
        others = sorted(p.name for p in folder.glob("calibration_*.json"))
        told = f"; there is {others[0]}: a folder has to be called as its sequence" if others else ""
        raise TriposeError(f"{folder}: {path.name} is missing{told}")
    return path


def _poses(folder: Path) -> Path:
    """The archive where it is there, as a folder may be unpacked half."""
    for path in (folder / f"{POSES}.tar", folder / POSES):
        if path.exists():
            return path
    older = [p.name for p in (folder / "hdPose3d_stage1", folder / "hdPose3d_stage1.tar") if p.exists()]
    told = f" ({older[0]} has the older 15 joints, without eyes and ears)" if older else ""
    raise TriposeError(f"{folder}: the poses are missing: neither {POSES}.tar nor {POSES}/ is there{told}")


def _cut(source: Path, images: Int[np.ndarray, " image"], frame: Int[np.ndarray, " frame"]) -> str:
    return f"{source} ends at frame {images[-1]}, and the poses are of frames {frame[0]} to {frame[-1]}"


def _images(folder: Path, camera: str) -> Path | None:
    """The folder of images where there is one, as single images are read quicker at random."""
    extracted, video = folder / "hdImgs" / camera, folder / "hdVideos" / f"hd_{camera}.mp4"
    if extracted.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES for p in extracted.iterdir()):
        return extracted
    return video if video.is_file() else None


def _numbers(source: Path, camera: Cameras) -> Int[np.ndarray, " image"]:
    """The frames that a source has images of."""
    info = probe(source)
    calibrated = tuple(camera.size_px[0].tolist())
    if info.size_px != calibrated:
        sizes = [f"{width} x {height}" for width, height in (info.size_px, calibrated)]
        raise TriposeError(f"{source} is {sizes[0]} px and its camera was calibrated for {sizes[1]}: it was rescaled")
    if source.is_dir():
        return np.array(list(numbered_images(source)), np.int64)
    if info.n_frames is None:
        raise TriposeError(f"{source} does not say how many frames it has: it was not finished")
    return np.arange(info.n_frames)
