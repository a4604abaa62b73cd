"""What a frozen 2D network says about a data set, computed once and kept on disk.

A folder with ``encoded-0.f16`` ... (numbers of all images, end to end, float16; one file for each tensor that the
model's `encode_views` gives) and ``samples.npz``. They are mapped into memory, so that a data set may be larger.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripose.cameras import Cameras
from tripose.data.batch import Sample, Samples, as_floats
from tripose.errors import TriposeError
from tripose.lens import Lens
from tripose.models.inference import for_inference
from tripose.models.weights import Model
from tripose.skeleton import Skeleton

Encoded = tuple[np.ndarray, ...]

_CAMERA = ("K", "R", "t", "distortion", "size_px")
# So many samples say whether a data set is the one whose encodings are there.
_LOOKED_AT = 16
_REPORT_EVERY = 500
_LARGEST = float(np.finfo(np.float16).max)


def encodings_of(
    model: Model,
    samples: Samples,
    place: Path,
    *,
    dtype: torch.dtype | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Encodings:
    """The encodings of a data set; computed if they are not there yet.

    Args:
        model: its networks for images have to be frozen.
        samples: the data set.
        place: folder of encodings of any number of models and data sets.
        dtype: of the networks, as in `tripose.models.inference`.
        say: is told how far it is.

    Raises:
        TriposeError: something that images go through is trained.
    """
    with torch.enable_grad():
        # A copy: in training, batch norms would learn from this image.
        probe = copy.deepcopy(model).eval()
        image = torch.zeros(1, 3, *reversed(model.config.image_size_px), device=next(model.parameters()).device)
        if any(part.requires_grad for part in probe.encode(image)):
            raise TriposeError("data.cache is set, but not all that images go through is in optimiser.frozen")
    folder = place / _key(model, samples, dtype)
    if not folder.is_dir():
        _write(model, samples, folder, dtype, say)
    return Encodings(folder, samples.skeleton)


@dataclass(frozen=True)
class Encodings:
    """Encodings on disk.

    Attributes:
        folder: of this data set and model.
        skeleton: of the data set.
    """

    folder: Path
    skeleton: Skeleton

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._about["views"])

    def read(self, index: int) -> tuple[Sample, Encoded]:
        """A sample with images of one black pixel, and what takes their place: arrays [view ...]."""
        about, first = self._about, self._first_view
        views = slice(int(first[index]), int(first[index + 1]))
        camera = {part: torch.from_numpy(about[part][views]) for part in _CAMERA}
        number = views.stop - views.start
        pinhole: Lens = "pinhole"
        cameras = Cameras(
            **camera,
            names=tuple(f"view {i + 1}" for i in range(number)),
            lens=(pinhole,) * number,
            up=json.loads(str(about["up"][index])),
        )
        visible = about["visible"][views] if "visible" in about else None
        sample = Sample(np.zeros((number, 1, 1, 3), np.uint8), cameras, about["keypoints_mm"][index], visible)
        return sample, tuple(np.array(part[views]) for part in self._encoded)

    @cached_property
    def _about(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "samples.npz") as file:
            return dict(file)

    @cached_property
    def _first_view(self) -> np.ndarray:
        return np.concatenate([[0], self._about["views"].cumsum()])

    @cached_property
    def _encoded(self) -> tuple[np.ndarray, ...]:
        shapes = json.loads(str(self._about["shapes"]))
        images = int(self._first_view[-1])
        return tuple(
            np.memmap(self.folder / f"encoded-{i}.f16", np.float16, "r", shape=(images, *shape))
            if all(shape)
            else np.zeros((images, *shape), np.float16)
            for i, shape in enumerate(shapes)
        )

    def __getstate__(self) -> dict[str, Any]:
        """A worker process maps the files itself."""
        return {"folder": self.folder, "skeleton": self.skeleton}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As pickled."""
        self.__dict__.update(state)


def _write(model: Model, samples: Samples, folder: Path, dtype: torch.dtype | None, say: Callable[[str], None]) -> None:
    """Encode everything; the folder is there when it is complete."""
    fast = for_inference(model, dtype)
    device = next(fast.parameters()).device
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shapes: list[tuple[int, ...]] = []
    read: list[Sample] = []
    try:
        part.mkdir(parents=True)
        for index in range(len(samples)):
            sample = samples[index]
            images = as_floats(torch.from_numpy(np.ascontiguousarray(sample.images)).to(device).permute(0, 3, 1, 2))
            with torch.inference_mode():
                encoded = fast.encode_views(images[None])
            shapes = [tuple(e.shape[2:]) for e in encoded]
            for i, tensor in enumerate(encoded):
                with (part / f"encoded-{i}.f16").open("ab") as file:
                    file.write(_half(tensor[0]).tobytes())
            read.append(_without_images(sample))
            if (index + 1) % _REPORT_EVERY == 0:
                say(f"the 2D network has seen {index + 1} of {len(samples)} samples")
        np.savez(part / "samples.npz", allow_pickle=False, **_about(read, shapes))
        part.rename(folder)
    except OSError as error:
        raise TriposeError(f"{folder} cannot be written: {error.strerror}") from error


def _half(tensor: Tensor) -> np.ndarray:
    half: np.ndarray = tensor.float().clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
    return half


def _without_images(sample: Sample) -> Sample:
    none = np.zeros((len(sample.images), 1, 1, 3), np.uint8)
    return Sample(none, sample.cameras, sample.keypoints_mm, sample.visible)


def _about(samples: list[Sample], shapes: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    about = {part: np.concatenate([getattr(s.cameras, part).numpy() for s in samples]) for part in _CAMERA}
    if all(s.visible is not None for s in samples):
        about["visible"] = np.concatenate([s.visible for s in samples if s.visible is not None])
    return about | {
        "keypoints_mm": np.stack([s.keypoints_mm for s in samples]),
        "views": np.array([len(s.images) for s in samples]),
        "up": np.array([json.dumps(s.cameras.up) for s in samples]),
        "shapes": np.array(json.dumps(shapes)),
    }


def _key(model: Model, samples: Samples, dtype: torch.dtype | None) -> str:
    """Another name for other weights, another model or other data."""
    digest = hashlib.sha256(f"{model.config} {samples.skeleton.name} {len(samples)} {dtype}".encode())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, tensor in model.state_dict().items():
        if name not in trained:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for index in np.unique(np.linspace(0, len(samples) - 1, _LOOKED_AT).astype(int)):
        sample = samples[int(index)]
        digest.update(np.ascontiguousarray(sample.images).tobytes())
        digest.update(np.ascontiguousarray(sample.keypoints_mm).tobytes())
        digest.update(sample.cameras.P.numpy().tobytes())
    return digest.hexdigest()[:16]
