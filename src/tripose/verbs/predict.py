"""``tripose predict``: a recording in, 3D poses out.

Stages, each a file on disk, so that any can be looked at, repeated or replaced:

1. follow the person through the images -> ``<name>.keypoints.npz`` (given keypoint files are read every time)
2. triangulate these keypoints, or look at the person's images again with a learned model -> ``<name>.nc``

An interrupted run resumes: keypoints are kept in pieces while they are made. A finished one is not repeated unless
its input or options changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast, get_args

from tripose import __version__, triangulation
from tripose.errors import TriposeError
from tripose.formats.netcdf import read_netcdf, write_netcdf
from tripose.lifting import check_size, lift
from tripose.models.config import Evidence
from tripose.models.fusion_joints import is_body
from tripose.models.placing import standing
from tripose.models.weights import digest, is_fusion, load_fusion, load_model
from tripose.pose import Pose2D, Pose3D
from tripose.recording import Recording
from tripose.verbs.keypoints import Progress, ahead, keypoints_of
from tripose.verbs.predict_learned import lift_learned
from tripose.verbs.stages import fingerprint, finished, make_folder

Method = Literal["auto", "dlt", "ransac", "irls", "fusion", "algebraic", "volumetric"]
"""Triangulation of keypoints, a model that looks at images, or what suits the recording."""
SHIPPED_MODELS = {
    "algebraic": "algebraic-synthetic",
    "volumetric": "volumetric-synthetic",
    "fusion": triangulation.FUSION,
}
"""Method -> the model that ships with the package."""


def predict(
    recording: Recording,
    *,
    method: Method = "auto",
    model: Path | str | None = None,
    min_views: int = 2,
    height_mm: float | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Pose3D:
    """Triangulate the one person that a recording shows.

    Uses the recording's 2D keypoints if it has no videos, else the detector that ships with the package.

    Args:
        recording: calibrated views.
        method: "dlt", "ransac", "irls" or "fusion", of keypoints, see `tripose.triangulation`; "algebraic" or
            "volumetric", learned, from images only; "auto": volumetric where there are images, else fusion, or RANSAC
            where the joints are not those of a human body or `min_views` is given. The result's notes say which.
        model: folder or name of a model, which is used then, whatever `method` says.
        min_views: smallest number of agreeing views that makes a joint; of classical triangulation only.
        height_mm: of the person, for a single camera; None: it stands on the floor, at height 0 of the world.
        out: folder for the files of the stages; None keeps everything in memory.
        progress: told after every frame.

    Raises:
        TriposeError: an unknown method, fewer than two usable views (for the volumetric model: fewer than one), nobody
            found, bones of impossible length (wrong unit), or a learned method for keypoint files.
    """
    chosen, name = choose(recording, method, model, min_views)
    if min_views != 2 and name is not None:
        raise TriposeError(
            f"min_views is {min_views}, which only dlt, ransac and irls know; give one of them as method"
        )
    result = None if out is None else out / f"{recording.name}.nc"
    # "auto" is another question than "fusion": its answer may be RANSAC's.
    asked = f"{method}, {chosen}" if model is None else chosen
    key = fingerprint(recording, asked, *((min_views,) if name is None else (name, digest(name), height_mm)))
    done = finished(result, read_netcdf)
    if done is not None and done.notes.get("fingerprint") == key:
        return done
    if name is None or chosen == "fusion":
        pose2d = keypoints_of(recording, out=out, progress=progress)
        if method == "auto" and model is None and not is_body(pose2d.skeleton.joints):
            chosen, name = "ransac", None
        poses = _lifted(pose2d, recording, cast(triangulation.Method, chosen), name, min_views)
    else:
        pieces = None if out is None else out / f".{recording.name}.{key}.learned"
        poses = _learned(recording, name, height_mm, pieces, out, progress)
    check_size(poses, str(recording.calibration))
    poses.notes.update(
        {
            "recording": recording.name,
            "calibration": recording.calibration.name,
            "source": "tripose " + __version__,
            "fingerprint": key,
            **{f"warning {i + 1}": w for i, w in enumerate(recording.warnings)},
        }
    )
    if result is not None:
        make_folder(result.parent)
        write_netcdf(poses, result)
    return poses


def _lifted(
    pose2d: Pose2D, recording: Recording, method: triangulation.Method, name: str | None, min_views: int
) -> Pose3D:
    if name is None:
        return lift(pose2d, recording.cameras, method=method, min_views=min_views)
    poses = lift(pose2d, recording.cameras, method="fusion", model=load_fusion(name))
    poses.notes["method"] = f"fusion ({Path(name).name})"
    return poses


def choose(
    recording: Recording, method: Method, model: Path | str | None, min_views: int = 2
) -> tuple[Method, str | None]:
    """The method that is meant, and its model; arguments as of `predict`.

    Raises:
        TriposeError: an unknown method, a learned one for keypoint files, or too few views.
    """
    if method not in get_args(Method):
        raise TriposeError(f"no method is called {method!r}; there are {', '.join(get_args(Method))}")
    if model is None and method == "auto":
        method = "volumetric" if recording.videos else "fusion" if min_views == 2 else "ransac"
    if model is not None and is_fusion(model):
        method = "fusion"
    classically = method == "fusion" or (model is None and method in triangulation.METHODS)
    if len(recording.cameras) < 2 and (classically or method == "algebraic" or not recording.videos):
        raise TriposeError(
            f"{recording.folder}: {len(recording.cameras)} usable view ({', '.join(recording.cameras.names)}); "
            "triangulation needs at least 2; the volumetric model can do with one, if it is a video"
        )
    if classically:
        return method, str(model or SHIPPED_MODELS[method]) if method == "fusion" else None
    if not recording.videos:
        asked = f"the model {model}" if model is not None else f"the method {method!r}"
        raise TriposeError(f"{recording.folder} has keypoint files and no videos; {asked} needs images")
    learned: Method = "algebraic" if method == "algebraic" else "volumetric"
    return learned, str(model if model is not None else SHIPPED_MODELS[learned])


def _learned(
    recording: Recording,
    name: str,
    height_mm: float | None,
    pieces: Path | None,
    out: Path | None,
    progress: Progress | None,
) -> Pose3D:
    model = load_model(name)
    place = None
    if len(recording.cameras) == 1:
        if not isinstance(model.config, Evidence):
            raise TriposeError(f"the model {name} needs at least 2 views; {recording.folder} has one")
        if recording.cameras.up is None:
            raise TriposeError(
                f"{recording.calibration} does not say which way is up, which one camera alone needs to know: write "
                "it into a tripose calibration (up: z)"
            )
        place = standing(model.config, height_mm=height_mm)
    n = recording.n_frames
    told = progress if progress is not None else lambda done, of: None
    # Both stages look at every frame.
    followed = keypoints_of(recording, out=out, progress=lambda done, of: told(done, None if n is None else 2 * n))
    seen = len(followed.points_px)
    poses = lift_learned(
        recording,
        lambda start: ahead(recording.frames(start)),
        followed,
        model,
        place,
        pieces,
        lambda done: told(seen + done, 2 * seen),
    )
    poses.notes["method"] = f"{model.config.method} ({Path(name).name})"
    return poses
