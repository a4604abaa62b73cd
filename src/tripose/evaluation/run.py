"""Running methods over samples: an image goes through a 2D network once, and is decoded in every choice of views.

Memory is that of one batch, and of the positions that were found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.data.batch import Batch, Sample, Samples, as_floats, collate
from tripose.errors import TriposeError
from tripose.evaluation.choices import Choice, chosen_views
from tripose.evaluation.methods import Encoded, Method
from tripose.evaluation.predictions import Predictions, merge
from tripose.geometry.heatmaps import size_of
from tripose.models.volumetric import root_mm
from tripose.models.weights import Model

# Images that are in memory together, and views that are decoded together.
_IMAGES = 32

# Which sample of a batch, and which of its views.
_Views = tuple[int, tuple[int, ...]]


def evaluate(
    samples: Samples,
    methods: Sequence[Method],
    choices: Sequence[Choice] = ("all",),
    *,
    rows: Sequence[int] | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Predictions:
    """What the methods predict for samples, from each choice of their views; the truth is only copied.

    Several processes share the work by `rows`; `merge` puts their predictions together and counts no row twice.

    Args:
        samples: the data set.
        methods: in order; the first one's result says where the person is, for methods that have to be told.
        choices: of views.
        rows: of the data set; None: all.
        progress: called with the number of rows that are done, and of all.

    Raises:
        TriposeError: nothing to do, methods that do not fit the samples or each other, or a camera that is missing.
    """
    rows = range(len(samples)) if rows is None else rows
    _check(samples, methods, rows)
    parts, done, networks = list[Predictions](), 0, None
    for batch, some in _batches(samples, rows):
        batch_rows = batch["index"].tolist()
        views = [(i, v) for i, s in enumerate(some) for v in chosen_views(choices, s.cameras.names)]
        with torch.inference_mode():
            if networks is None:
                _check_size(some[0], methods)
                networks = _networks(methods, batch)
            seen = _look(methods, networks, batch)
            found = [f for chunk in _chunks(views) for f in _decode(methods, seen, batch, chunk)]
        parts += [_predictions(samples, some, batch_rows, chunk, positions, name) for name, chunk, positions in found]
        done += len(some)
        progress(done, len(rows))
    if not parts:
        raise TriposeError("no sample has as many cameras as are asked for")
    return merge(*parts)


def _batches(samples: Samples, rows: Sequence[int]) -> Iterator[tuple[Batch, list[Sample]]]:
    """Samples of together not more than `_IMAGES` images, or a single one."""
    some, index = list[Sample](), list[int]()
    for row in rows:
        sample = samples[row]
        if some and sum(len(s.images) for s in (*some, sample)) > _IMAGES:
            yield collate(some, index), some
            some, index = [], []
        some, index = [*some, sample], [*index, row]
    yield collate(some, index), some


# --- The 2D networks --------------------------------------------------------------------------------------------------


def _networks(methods: Sequence[Method], batch: Batch) -> dict[int, Model]:
    """For every model (by `id`) the one that encodes for it: itself, or one that says the same and perhaps more.

    The methods of a comparison have the same 2D network, each in a copy of its own; what two copies say about the same
    image is equal to the last bit. What other networks say is not.
    """
    models = list({id(m.model): m.model for m in methods}.values())
    said = [m.encode_views(as_floats(batch["images"][:1, :1].to(_device(m)))) for m in models]
    encoder = {}
    for model, own in zip(models, said, strict=True):
        candidates = sorted(zip(models, said, strict=True), key=lambda pair: -len(pair[1]))
        encoder[id(model)] = next(m for m, other in candidates if m is model or _begins_with(other, own))
    return encoder


def _begins_with(encoded: Encoded, own: Encoded) -> bool:
    return len(encoded) >= len(own) and all(
        a.shape == b.shape and a.device == b.device and torch.equal(a, b) for a, b in zip(encoded, own, strict=False)
    )


def _look(methods: Sequence[Method], networks: dict[int, Model], batch: Batch) -> dict[str, Encoded]:
    """What each method needs of all views of the batch, by its name."""
    encoded, seen = dict[int, Encoded](), dict[tuple[int, int], Encoded]()
    for method in methods:
        network = networks[id(method.model)]
        if id(network) not in encoded:
            device = _device(network)
            images = as_floats(batch["images"].to(device))
            encoded[id(network)] = network.encode_views(images, batch["view_valid"].to(device))
        key = id(network), id(method.look)
        if key not in seen:
            seen[key] = method.look(encoded[id(network)], size_of(batch["images"]))
    return {m.name: seen[id(networks[id(m.model)]), id(m.look)] for m in methods}


# --- The methods ------------------------------------------------------------------------------------------------------


def _chunks(views: Sequence[_Views]) -> Iterator[list[_Views]]:
    """Choices with the same number of views, not more than `_IMAGES` views together."""
    for n in sorted({len(v) for _, v in views}):
        same = [(i, v) for i, v in views if len(v) == n]
        step = max(1, _IMAGES // n)
        yield from (same[k : k + step] for k in range(0, len(same), step))


def _decode(
    methods: Sequence[Method], seen: dict[str, Encoded], batch: Batch, chunk: list[_Views]
) -> Iterator[tuple[str, list[_Views], Float[np.ndarray, "entry joint 3"]]]:
    """The positions that each method finds in some choices of views."""
    sample = torch.tensor([i for i, _ in chunk])[:, None]
    view = torch.tensor([v for _, v in chunk])
    cameras = _some_views(batch["cameras"], sample, view)
    center_mm: Tensor | None = None
    for method in methods:
        device = _device(method.model)
        some = tuple(e[sample, view] for e in seen[method.name])
        place = center_mm.to(device).nan_to_num() if method.needs_center and center_mm is not None else None
        found_mm = method.decode(some, cameras.to(device), size_of(batch["images"]), place)
        if place is not None and center_mm is not None:
            found_mm = torch.where(center_mm.to(device).isnan().any(1)[:, None, None], torch.nan, found_mm)
        if method is methods[0] and any(m.needs_center for m in methods):
            center_mm = root_mm(found_mm, method.skeleton)
        yield method.name, chunk, found_mm.double().cpu().numpy()


def _some_views(cameras: Cameras, sample: Tensor, view: Tensor) -> Cameras:
    views = view.shape[1]
    some = {part: getattr(cameras, part)[sample, view] for part in ("K", "R", "t", "distortion", "size_px")}
    return replace(cameras, **some, names=cameras.names[:views], lens=cameras.lens[:views])


def _predictions(
    samples: Samples,
    some: list[Sample],
    rows: list[int],
    chunk: list[_Views],
    keypoints_mm: Float[np.ndarray, "entry joint 3"],
    name: str,
) -> Predictions:
    views = np.zeros((len(chunk), max(len(s.images) for s in some)), dtype=bool)
    for entry, (_, chosen) in zip(views, chunk, strict=True):
        entry[list(chosen)] = True
    rigs = {s.cameras.names for s in some}
    return Predictions(
        row=np.array([rows[i] for i, _ in chunk]),
        method=np.full(len(chunk), name),
        views=views,
        keypoints_mm=keypoints_mm,
        truth_mm=np.stack([some[i].keypoints_mm for i, _ in chunk]).astype(np.float64),
        group=np.array([some[i].group for i, _ in chunk], dtype=np.str_),
        skeleton=samples.skeleton,
        cameras=next(iter(rigs)) if len(rigs) == 1 else (),
    )


# --- Checks -----------------------------------------------------------------------------------------------------------


def _check(samples: Samples, methods: Sequence[Method], rows: Sequence[int]) -> None:
    if not methods:
        raise TriposeError("there is no method to evaluate")
    if not len(rows):
        raise TriposeError("there is nothing to evaluate: the data set has no samples")
    names = [m.name for m in methods]
    doubles = sorted({n for n in names if names.count(n) > 1})
    if doubles:
        raise TriposeError(f"two methods are called {doubles[0]!r}, and so would be one row of the tables")
    for method in methods:
        if method.skeleton.joints != samples.skeleton.joints:
            raise TriposeError(
                f"{method.name} finds the joints of {method.skeleton.name} ({len(method.skeleton)}), the truth has "
                f"those of {samples.skeleton.name} ({len(samples.skeleton)})"
            )
    if methods[0].needs_center:
        raise TriposeError(
            f"{methods[0].name} has to be told where the person is: evaluate a method that finds it before, such as an "
            "algebraic model"
        )


def _check_size(sample: Sample, methods: Sequence[Method]) -> None:
    height, width = sample.images.shape[1:3]
    for method in methods:
        wanted = method.model.config.image_size_px
        if wanted != (width, height):
            raise TriposeError(
                f"the samples are {width} x {height} px, but the model of {method.name} takes {wanted[0]} x "
                f"{wanted[1]} px"
            )


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device
