"""How well do methods do on a data set? Predictions, tables and plots in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from tripose.data.batch import Samples
from tripose.data.scenes import read_index
from tripose.data.shards import open_shards, stored_skeletons
from tripose.drawing.plots import check_plots
from tripose.errors import TriposeError
from tripose.evaluation.choices import Choice
from tripose.evaluation.detected import evaluate_detected
from tripose.evaluation.human36m_results import read_official
from tripose.evaluation.methods import Method, baselines, learned
from tripose.evaluation.predictions import Predictions, merge
from tripose.evaluation.report import write_report
from tripose.evaluation.run import evaluate as run
from tripose.evaluation.tables import Tables
from tripose.evaluation.transfer import Transferred
from tripose.models.config import Evidence
from tripose.models.inference import for_inference
from tripose.models.placing import Place, standing
from tripose.models.weights import Model, load_fusion, load_model
from tripose.skeleton import Skeleton
from tripose.triangulation import METHODS
from tripose.triangulation import Method as Baseline


def evaluate(
    models: Mapping[str, Path | str],
    samples: Samples,
    out: Path,
    *,
    classical: Sequence[Baseline] = METHODS,
    views: Sequence[Choice] = ("all",),
    rows: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Tables:
    """Evaluate models, and classical triangulation of what the first model's 2D network sees.

    Args:
        models: name in the tables -> folder, or name of a model that ships.
        samples: the data set.
        out: folder for predictions.npz, metrics.json, report.md and plots.
        classical: which classical methods.
        views: which cameras of each sample are used.
        rows: of the data set; None: all.
        dtype: of the networks, see `tripose.models.inference.for_inference`.
        about: what the data is, in words.
        progress: called with the number of rows that are done, and of all.

    Raises:
        TriposeError: no model, a model that does not fit the data, nothing to evaluate, or `out` cannot be written.
    """
    check_plots()
    _check_folder(out)
    methods = methods_for(models, classical, dtype)
    predictions = run(samples, methods, views, rows=rows, progress=progress)
    return write_report(predictions, out, {**(about or {}), **{f"model {n}": str(p) for n, p in models.items()}})


def parse_models(texts: Sequence[str]) -> dict[str, str]:
    """Models as they are typed, ``NAME=PLACE`` or the place alone, whose last part is then the name.

    Raises:
        TriposeError: two models with the same name.
    """
    models = dict[str, str]()
    for text in texts:
        name, separator, place = text.rpartition("=")
        name = name if separator else Path(place).resolve().name
        if name in models:
            raise TriposeError(f"two models are called {name!r}; give them names: first={models[name]} second={place}")
        models[name] = place
    return models


def parse_classical(text: str) -> list[Baseline]:
    """Classical methods as they are typed: ``dlt,ransac``, or ``none``.

    Raises:
        TriposeError: an unknown one.
    """
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise TriposeError(f"no method of keypoints is called {unknown[0]!r}; there are {', '.join(METHODS)}, or none")
    return [method for method in METHODS if method in names]


def methods_for(
    models: Mapping[str, Path | str], classical: Sequence[Baseline] = METHODS, dtype: torch.dtype | None = None
) -> list[Method]:
    """The classical methods on the first model's 2D network, then the models; arguments as in `evaluate`.

    Raises:
        TriposeError: no model, or one that cannot be loaded.
    """
    if not models:
        raise TriposeError("no model is given; the classical methods, too, need one for its 2D network")
    loaded = {name: for_inference(load_model(place), dtype) for name, place in models.items()}
    first = next(iter(loaded.values()))
    return [*baselines(classical, first), *(learned(n, m, _place(m)) for n, m in loaded.items())]


def _place(model: Model) -> Place | None:
    """Who is seen by one camera stands on the floor."""
    return standing(model.config) if isinstance(model.config, Evidence) else None


def open_stored(folder: Path | str, joints: Skeleton) -> Samples:
    """A stored data set with the truth of a model's joints; if it has others, what can be compared of them.

    Args:
        folder: of the data set.
        joints: of the model.

    Raises:
        TriposeError: no such data set, a damaged one, or joints that have nothing to do with each other.
    """
    known = stored_skeletons(folder)
    if not known or joints.name in known:
        return open_shards(folder, joints.name)
    return Transferred(open_shards(folder, known[0]), joints)


def evaluate_again(files: Sequence[Path], out: Path, *, about: Mapping[str, str] | None = None) -> Tables:
    """Make the report of predictions that `evaluate` kept, without any network.

    Args:
        files: predictions.npz of one or several runs; what is in several of them is counted once.
        out: as in `evaluate`.
        about: what the data is, in words; None: the names of the files.

    Raises:
        TriposeError: a file that is missing or holds something else, or files that contradict each other.
    """
    check_plots()
    _check_folder(out)
    about = {"predictions": ", ".join(map(str, files))} if about is None else about
    return write_report(merge(*(Predictions.load(f) for f in files)), out, about)


def evaluate_results(results: Path, labels: Path | None, out: Path, *, every: int = 1) -> Tables:
    """Make the report of what the published code predicted for Human3.6M.

    Args:
        results: its ``results.pkl``.
        labels: its ``human36m-multiview-labels-*.npy``.
        out: as in `evaluate`.
        every: ``retain_every_n_frames_in_test``.

    Raises:
        TriposeError: no labels, files that do not fit each other, or `out` cannot be written.
    """
    if labels is None:
        raise TriposeError(f"{results} holds predictions without a truth: --labels human36m-multiview-labels-....npy")
    check_plots()
    _check_folder(out)
    return write_report(read_official(results, labels, every), out, {"data": f"{results}, {labels}"})


def evaluate_index(
    index: Path,
    out: Path,
    *,
    classical: Sequence[Baseline] = METHODS,
    models: Mapping[str, Path | str] | None = None,
    views: Sequence[Choice] = ("all",),
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Tables:
    """Evaluate triangulation of the detections that an index of scenes holds.

    Args:
        index: npz, see `tripose.data.scenes`.
        out: as in `evaluate`.
        classical: which classical methods.
        models: name in the tables -> fusion model: folder, or name of one that ships.
        views: which cameras of each scene are used.
        progress: called with the number of scenes that are done, and of all.

    Raises:
        TriposeError: a damaged index or one without detections, no method, a model that looks at images, or `out`
            cannot be written.
    """
    check_plots()
    _check_folder(out)
    loaded = {name: load_fusion(place) for name, place in (models or {}).items()}
    scenes = read_index(index)
    try:
        found = evaluate_detected(scenes, classical, views, progress, models=loaded)
    except TriposeError as error:
        raise TriposeError(f"{index}: {error}") from error
    return write_report(found, out, {"data": str(index), **{f"model {n}": str(p) for n, p in (models or {}).items()}})


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise TriposeError(f"{out} is a file; an evaluation is a folder")
