"""``tripose prepare``: other people's data sets as shards to train on and evaluate with."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from tripose.data.joints import to_joints
from tripose.data.labelled import LabelledSamples
from tripose.data.own import open_labelled, read_dataset_file
from tripose.data.rendered import Rendered
from tripose.data.shards import write_shards
from tripose.errors import TriposeError
from tripose.skeleton import HALPE26, Skeleton

# Of crops that will be decoded thousands of times; what cameras did to them is in them already.
_JPEG_QUALITY = 95


def prepare_own(
    src: Path | str,
    dst: Path | str,
    *,
    skeleton: Skeleton = HALPE26,
    side_px: int = 256,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, int]:
    """Cut everybody out of the videos of an own data set, see ``docs/own-data.md``.

    All recordings are opened and looked over before anything is written. A split that is there already is kept, so
    that an interrupted run goes on with the next one.

    Args:
        src: folder with ``dataset.yaml``.
        dst: folder to make; it gets one folder of shards for each split.
        skeleton: joints of the truth.
        side_px: of the crops.
        progress: told the samples done and their number.

    Returns:
        The number of samples written, by split.

    Raises:
        TriposeError: something is wrong with the data (see `open_labelled`), or the videos have no labelled frame.
    """
    src, dst = Path(src), Path(dst)
    splits = [s for s in read_dataset_file(src).splits if not (dst / s).exists()]
    samples = {split: open_labelled(src, skeleton, split, side_px) for split in splits}
    total, done = sum(map(len, samples.values())), 0
    written = {}
    for split, some in samples.items():
        part = dst / f".{split}.part"
        shutil.rmtree(part, ignore_errors=True)
        before = done

        def tell(n: int, before: int = before) -> None:
            if progress is not None:
                progress(before + n, total)

        written[split] = write_shards(stored(some, range(len(some))), part, progress=tell)
        if not written[split]:
            raise TriposeError(f"{src}: the videos have none of the frames that are labelled for {split!r}")
        if lost := len(some) - written[split]:
            warnings.warn(f"{src}: {lost} labelled moments of {split!r} have no image and are left out", stacklevel=2)
        part.rename(dst / split)
        done += len(some)
    return written


def stored(samples: LabelledSamples, rows: Iterable[int], others: Sequence[Skeleton] = ()) -> Iterator[Rendered]:
    """Those samples that some view shows, as shards keep them.

    Args:
        samples: where they are.
        rows: which.
        others: skeletons in which the truth is kept, too, as far as `to_joints` knows how.
    """
    own = samples.skeleton
    for index in rows:
        sample = samples.cut(index)
        if sample is not None and sample.visible is not None:
            jpeg = tuple(_jpeg(image) for image in sample.images)
            keypoints_mm, visible = {own.name: sample.keypoints_mm}, {own.name: sample.visible}
            for other in others:
                keypoints_mm[other.name] = to_joints(sample.keypoints_mm, own, other)
                shown = np.where(sample.visible[..., None], np.zeros(3), np.nan)
                visible[other.name] = np.isfinite(to_joints(shown, own, other)).all(-1)
            yield Rendered(jpeg, sample.cameras, keypoints_mm, visible, sample.group)


def _jpeg(image: UInt8[np.ndarray, "side side 3"]) -> bytes:
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return code.tobytes()
