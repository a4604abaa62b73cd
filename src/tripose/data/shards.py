"""A data set on disk: a folder of shards, each one safetensors file of some hundred samples.

A shard is mapped into memory, so that a sample is read without its neighbours and memory stays small. Tensors:
``jpeg`` (all crops, end to end), ``jpeg_end`` [image], ``views`` [sample]; per image in the order of views ``K``,
``R``, ``t`` (mm), ``size_px``; per skeleton ``keypoints_mm/NAME`` [sample joint 3] and ``visible/NAME`` [image joint].
Metadata: ``tripose`` (version of this format), ``up``, ``groups`` and ``names`` (of the views) as JSON.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tripose.cameras import Cameras
from tripose.data.batch import Sample
from tripose.data.rendered import Rendered
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.lens import Lens
from tripose.skeleton import Skeleton, skeleton_named

SAMPLES_PER_SHARD = 250
_FORMAT = "1"
_PINHOLE: Lens = "pinhole"
_CAMERA = ("K", "R", "t", "size_px")


def write_shards(samples: Iterable[Rendered], folder: Path, *, progress: Callable[[int], None] | None = None) -> int:
    """Write samples as shards named by the number of their first sample.

    Args:
        samples: of the same skeletons and up-axis.
        folder: made if it is not there.
        progress: told the number of samples written.

    Returns:
        The number of samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rest, done = iter(samples), 0
    while some := list(islice(rest, SAMPLES_PER_SHARD)):
        write_shard(some, folder / f"{done:08d}.safetensors")
        done += len(some)
        if progress is not None:
            progress(done)
    return done


def write_shard(samples: list[Rendered], path: Path) -> None:
    """Write one shard; it is complete or not there.

    Raises:
        TriposeError: the file cannot be written.
    """
    from safetensors.torch import save_file

    codes = [code for s in samples for code in s.jpeg]
    tensors = {
        "jpeg": torch.frombuffer(bytearray(b"".join(codes)), dtype=torch.uint8),
        "jpeg_end": torch.tensor([len(c) for c in codes]).cumsum(0),
        "views": torch.tensor([len(s.jpeg) for s in samples]),
        **{part: torch.cat([getattr(s.cameras, part) for s in samples]) for part in _CAMERA},
    }
    for name in samples[0].keypoints_mm:
        tensors[f"keypoints_mm/{name}"] = torch.from_numpy(np.stack([s.keypoints_mm[name] for s in samples]))
        tensors[f"visible/{name}"] = torch.from_numpy(np.concatenate([s.visible[name] for s in samples]))
    about = {
        "tripose": _FORMAT,
        "up": json.dumps(samples[0].cameras.up),
        "groups": json.dumps([s.group for s in samples]),
        "names": json.dumps([s.cameras.names for s in samples]),
    }
    with atomic(path, ".safetensors") as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part, metadata=about)


def open_shards(folder: Path | str, skeleton: str) -> Shards:
    """Open a data set that `write_shards` or ``tripose synth`` wrote.

    Args:
        folder: of the shards.
        skeleton: name of the joint set whose truth is wanted.

    Raises:
        TriposeError: no such folder, no shard in it, a shard that is damaged, of another format, or without the
            skeleton; the file is named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TriposeError(f"{folder}: no such data set; `tripose synth` makes synthetic ones")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise TriposeError(f"{folder} holds no data set: there is no .safetensors file in it")
    shards = [_Shard(path, skeleton) for path in paths]
    ends = np.cumsum([len(s.groups) for s in shards]).tolist()
    return Shards(tuple(shards), tuple(ends), skeleton_named(skeleton))


def stored_skeletons(folder: Path | str) -> list[str]:
    """Names of the joint sets that a data set has a truth for; none where `open_shards` would refuse it."""
    for path in sorted(Path(folder).glob("*.safetensors"))[:1]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                names = list(file.keys())
            return sorted(name.split("/")[1] for name in names if name.startswith("keypoints_mm/"))
        except (SafetensorError, OSError):
            break
    return []


@dataclass(frozen=True)
class Shards:
    """A stored data set.

    Attributes:
        shards: in order.
        ends: for each the number of the first sample after it.
        skeleton: joints of the truth.
    """

    shards: tuple[_Shard, ...]
    ends: tuple[int, ...]
    skeleton: Skeleton

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """A sample.

        Raises:
            TriposeError: a damaged image.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = bisect_right(self.ends, index)
        return self.shards[which].sample(index - (self.ends[which - 1] if which else 0))


class _Shard:
    """One file, mapped into memory when it is first read in a process."""

    def __init__(self, path: Path, skeleton: str) -> None:
        self.path, self.skeleton = path, skeleton
        self._file: Any = None
        try:
            about = self.file.metadata() or {}
            keys = set(self.file.keys())
            if about.get("tripose") != _FORMAT:
                raise TriposeError(f"{path} is not a shard of a data set, or one of another version")
            known = sorted(k.split("/")[1] for k in keys if k.startswith("keypoints_mm/"))
            if skeleton not in known:
                raise TriposeError(f"{path} has no truth for the skeleton {skeleton!r}; it has {', '.join(known)}")
            self.groups: list[str] = json.loads(about["groups"])
            self.names: list[list[str]] = json.loads(about["names"])
            self.up = json.loads(about["up"])
            first = self._tensor("views").cumsum(0)
            self.first_view: list[int] = [0, *first.tolist()]
            self.jpeg_end: list[int] = [0, *self._tensor("jpeg_end").tolist()]
            self.cameras = {part: self._tensor(part) for part in _CAMERA}
        except (KeyError, ValueError) as error:
            raise TriposeError(f"{path} is damaged: {error}; make it again") from error

    @property
    def file(self) -> Any:
        if self._file is None:
            from safetensors import SafetensorError, safe_open

            try:
                self._file = safe_open(self.path, "pt")
            except (SafetensorError, OSError) as error:
                raise TriposeError(f"{self.path} cannot be read, it is damaged or incomplete: {error}") from error
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        """A worker process opens the file itself."""
        return self.__dict__ | {"_file": None}

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = self.file.get_tensor(name)
        return tensor

    def sample(self, row: int) -> Sample:
        views = range(self.first_view[row], self.first_view[row + 1])
        images = [self._image(v) for v in views]
        some = slice(views.start, views.stop)
        camera = {part: tensor[some] for part, tensor in self.cameras.items()}
        cameras = Cameras(
            **camera,
            distortion=torch.zeros(len(views), 14, dtype=torch.float64),
            names=tuple(self.names[row]),
            lens=(_PINHOLE,) * len(views),
            up=self.up,
        )
        return Sample(
            np.stack(images),
            cameras,
            self.file.get_slice(f"keypoints_mm/{self.skeleton}")[row].numpy(),
            self.file.get_slice(f"visible/{self.skeleton}")[some].numpy(),
            self.groups[row],
        )

    def _image(self, view: int) -> np.ndarray:
        code = self.file.get_slice("jpeg")[self.jpeg_end[view] : self.jpeg_end[view + 1]].numpy()
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
        if image is None:
            raise TriposeError(f"{self.path}: image {view} is damaged; make the data set again")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # five times faster than to turn the axis and copy that
