"""``tripose prepare human36m``: Human3.6M from its original files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from tripose.data.human36m.extracted import extracted_scenes, find_labels
from tripose.data.human36m.originals import find_originals
from tripose.data.human36m.protocol import TEST_SUBJECTS, TRAIN_SUBJECTS
from tripose.data.human36m.rig import read_cameras
from tripose.data.human36m.scenes import Boxes, read_scene
from tripose.data.human36m.unpack import unpack
from tripose.errors import TriposeError
from tripose.skeleton import MPII16
from tripose.verbs.prepare_boxes import with_detector
from tripose.verbs.prepare_scenes import Job, Progress, check_room, cut, gather, remember

Detector = Literal["detector"]


def prepare_human36m(
    src: Path | str,
    dst: Path | str,
    *,
    every: int = 5,
    boxes: Boxes | Detector = "truth",
    side_px: int = 384,
    workers: int = 2,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, int]:
    """Unpack what is not unpacked, index all scenes, and cut everybody out of the videos.

    Any part of the data set will do; what is missing is told. An interrupted run goes on where it was, a finished one
    does nothing.

    Args:
        src: folder of the original download, archives or unpacked; or the published code's own labels
            (``human36m-multiview-labels-*.npy``) and extracted images, which are taken as they are.
        dst: folder to make: ``index.npz``, and shards of crops in ``train`` (S1, S5, S6, S7, S8) and ``test``
            (S9, S11); archives are unpacked into ``original``.
        every: every n-th frame of the original files counts.
        boxes: where people are cut out of them: the data set's boxes, the square around the projected joints, or where
            a detector finds them, which takes about 40 ms an image on one core.
        side_px: of the crops.
        workers: processes.
        progress: told what is done and how much there is, for each of the three steps.
        say: told how much room the crops will take, before there are any.

    Returns:
        The number of labelled moments, by split.

    Raises:
        TriposeError: nothing of Human3.6M, no cameras, not enough room on the disk, or scenes that cannot be read; all
            others are kept.
    """
    src, dst = Path(src), Path(dst)
    remember(dst, {"every": every, "boxes": boxes, "side_px": side_px})
    labels = find_labels(src)
    jobs = _original_jobs(src, dst, every, boxes, progress) if labels is None else extracted_scenes(src, labels)
    scenes = gather(jobs, dst, workers=workers, progress=progress)
    splits = _splits(list(jobs))
    check_room(dst, splits, scenes, side_px, say)
    return cut(dst, splits, side_px, others=(MPII16,), workers=workers, progress=progress)


def _original_jobs(
    src: Path, dst: Path, every: int, boxes: Boxes | Detector, progress: Progress | None
) -> dict[str, Job]:
    found = find_originals(src, dst / "original")
    if found.archives:
        unpack(found.archives, dst / "original", progress=progress)
        found = find_originals(src, dst / "original")
    for sentence in found.missing:
        warnings.warn(f"{src}: {sentence}", stacklevel=2)
    if found.metadata is None or not found.scenes:
        raise TriposeError(f"{src}: nothing can be prepared: {'; '.join(found.missing)}")
    rigs = read_cameras(found.metadata)
    known: Boxes = "joints" if boxes == "detector" else boxes
    jobs: dict[str, Job] = {
        s.name: partial(read_scene, s, rigs[s.subject], every=every, boxes=known) for s in found.scenes
    }
    return with_detector(jobs) if boxes == "detector" else jobs


def _splits(scenes: list[str]) -> dict[str, list[str]]:
    subjects = {"train": TRAIN_SUBJECTS, "test": TEST_SUBJECTS}
    splits = {split: [s for s in scenes if s.split("/")[0] in some] for split, some in subjects.items()}
    return {split: names for split, names in splits.items() if names}
