"""``tripose prepare panoptic``: CMU Panoptic from its original files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from tripose.data.panoptic.originals import open_sequence, sequence_folders
from tripose.data.panoptic.protocol import PROTOCOLS, Protocol, Split
from tripose.data.panoptic.scenes import protocol_scene
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.skeleton import COCO17
from tripose.verbs.prepare_boxes import with_detector
from tripose.verbs.prepare_scenes import Job, Progress, check_room, cut, gather, remember


def prepare_panoptic(
    src: Path | str,
    dst: Path | str,
    *,
    protocol: str = "single-person",
    boxes: Literal["joints", "detector"] = "joints",
    side_px: int = 384,
    workers: int = 2,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, int]:
    """Index the sequences of a protocol that are there, and cut its people out of the images.

    Args:
        src: folder with one folder a sequence, as the data set's own scripts download it.
        dst: folder to make: ``index.npz``, and a folder of shards for each split.
        protocol: one of `tripose.data.panoptic.protocol.PROTOCOLS`.
        boxes: where people are cut out, see `tripose.verbs.prepare_human36m`.
        side_px: of the crops.
        workers: processes.
        progress: told what is done and how much there is, for the labels and then for the crops.

        say: told how much room the crops will take, before there are any.

    Returns:
        The number of labelled moments, by split.

    Raises:
        TriposeError: no sequence of the protocol, or some that cannot be read; the others are kept.
    """
    src, dst = Path(src), Path(dst)
    chosen = PROTOCOLS[protocol]
    there = sequence_folders(src)
    splits = {split: [name for name in part.sequences if name in there] for split, part in chosen.splits.items()}
    jobs: Mapping[str, Job] = {
        name: partial(_scene, there[name], chosen, chosen.splits[split])
        for split, names in splits.items()
        for name in names
    }
    if not jobs:
        wanted = ", ".join(name for part in chosen.splits.values() for name in part.sequences)
        raise TriposeError(f"{src}: there is no sequence of the protocol {protocol!r}, which has {wanted}")
    absent = [name for part in chosen.splits.values() for name in part.sequences if name not in there]
    if absent:
        warnings.warn(f"{src}: results will be without {', '.join(absent)}, which are not there", stacklevel=2)
    if boxes == "detector":
        jobs = with_detector(jobs)
    remember(dst, {"protocol": protocol, "boxes": boxes, "side_px": side_px})
    scenes = gather(jobs, dst, workers=workers, progress=progress)
    check_room(dst, splits, scenes, side_px, say)
    some = {split: names for split, names in splits.items() if names}
    return cut(dst, some, side_px, others=(COCO17,), workers=workers, progress=progress)


def _scene(folder: Path, protocol: Protocol, split: Split) -> tuple[Scene, tuple[str, ...]]:
    sequence = open_sequence(folder, split.cameras)
    return protocol_scene(sequence, protocol, split), sequence.problems
