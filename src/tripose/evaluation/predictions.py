"""What methods predicted and what was true, kept in one file, so that it can be judged again without any network."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.skeleton import SKELETONS, Skeleton, custom

# Two results for one row, method and choice of views are the same when half of the joints are this near. Networks round
# differently in another batch, in bfloat16 by tenths of a millimetre, and a robust method may then jump at a joint;
# other weights move all joints further.
_SAME_MM = 2.0


@dataclass(frozen=True)
class Predictions:
    """One entry for every row of a data set, method, and choice of views.

    Attributes:
        row: of the data set.
        method: which one.
        views: which cameras of the rig it was given; rigs with fewer cameras are filled up with False.
        keypoints_mm: predicted, world frame; NaN where the method found nothing.
        truth_mm: world frame; NaN where it is not known.
        group: what results are told apart by: a split, an action, a subject.
        skeleton: of the joints.
        cameras: names of the rig's cameras where all rows share them, else empty.
    """

    row: Int[np.ndarray, " entry"]
    method: Shaped[np.ndarray, " entry"]
    views: Bool[np.ndarray, "entry view"]
    keypoints_mm: Float[np.ndarray, "entry joint 3"]
    truth_mm: Float[np.ndarray, "entry joint 3"]
    group: Shaped[np.ndarray, " entry"]
    skeleton: Skeleton
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts belong together.

        Raises:
            TriposeError: naming what does not fit.
        """
        entries, joints, views = len(self.row), len(self.skeleton), self.views.shape[-1]
        if self.keypoints_mm.shape[1:] != (joints, 3):
            raise TriposeError(
                f"the predictions are {list(self.keypoints_mm.shape)}, but skeleton {self.skeleton.name!r} has {joints}"
                " joints: name the skeleton that they were made with"
            )
        expected = {
            "method": (entries,),
            "views": (entries, views),
            "keypoints_mm": (entries, joints, 3),
            "truth_mm": (entries, joints, 3),
            "group": (entries,),
        }
        for name, wanted in expected.items():
            if getattr(self, name).shape != wanted:
                raise TriposeError(f"{name} must be {list(wanted)}, got {list(getattr(self, name).shape)}")
        if self.cameras and len(self.cameras) != views:
            raise TriposeError(f"there are {views} views, but {len(self.cameras)} camera names")

    def __len__(self) -> int:
        return len(self.row)

    @property
    def n_views(self) -> Int[np.ndarray, " entry"]:
        """How many cameras were given."""
        count: Int[np.ndarray, " entry"] = self.views.sum(1)
        return count

    def select(self, chosen: Bool[np.ndarray, " entry"] | Int[np.ndarray, " some"]) -> Predictions:
        """Some of the entries, by mask or position."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _ARRAYS})

    def save(self, path: Path | str) -> None:
        """Write one npz file without Python objects.

        Raises:
            TriposeError: the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        joints = np.array(self.skeleton.joints, dtype=np.str_)
        with atomic(Path(path), ".npz") as part:
            np.savez_compressed(
                part,
                **arrays,
                cameras=np.array(self.cameras, dtype=np.str_),
                joints=joints,
                skeleton=np.array(self.skeleton.name),
                root=np.array(self.skeleton.root or ""),
            )

    @staticmethod
    def load(path: Path | str) -> Predictions:
        """Read a file that `save` wrote.

        Raises:
            TriposeError: no such file, or something else than predictions.
        """
        path = Path(path)
        if not path.is_file():
            raise TriposeError(f"there is no file of predictions {path}")
        try:
            with np.load(path, allow_pickle=False) as content:
                held = {name: content[name] for name in (*_ARRAYS, "cameras", "joints", "skeleton", "root")}
        except KeyError as error:
            raise TriposeError(f"{path} does not hold predictions: {error.args[0]}") from error
        except Exception as error:  # zipfile, zlib and NumPy each have their own
            raise TriposeError(f"{path} cannot be read, it is damaged or no npz file: {error}") from error
        skeleton = _skeleton(str(held.pop("skeleton")), tuple(held.pop("joints").tolist()), str(held.pop("root")), path)
        cameras = tuple(held.pop("cameras").tolist())
        try:
            return Predictions(**held, skeleton=skeleton, cameras=cameras)
        except TriposeError as error:
            raise TriposeError(f"{path}: {error}") from error


_ARRAYS = tuple(f.name for f in fields(Predictions) if f.name not in ("skeleton", "cameras"))


def merge(*parts: Predictions) -> Predictions:
    """Predictions of several processes, models or runs as one; whatever is there twice is counted once.

    Ordered by row, method and views. Camera names stay only where all parts have the same.

    Raises:
        TriposeError: no part, parts of different skeletons, or two of them that contradict each other about the same
            row: in its truth or group, or in what the same method predicted from the same views.
    """
    if not parts:
        raise TriposeError("there are no predictions to merge")
    first = parts[0]
    for part in parts[1:]:
        if part.skeleton.joints != first.skeleton.joints:
            raise TriposeError(
                f"predictions of skeleton {first.skeleton.name!r} ({len(first.skeleton)} joints) and of "
                f"{part.skeleton.name!r} ({len(part.skeleton)} joints) cannot be put into one table"
            )
    width = max(p.views.shape[1] for p in parts)
    views = [np.pad(p.views, [(0, 0), (0, width - p.views.shape[1])]) for p in parts]
    rest = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS if name != "views"}
    same_names = all(p.cameras == first.cameras for p in parts)
    whole = Predictions(
        **rest, views=np.concatenate(views), skeleton=first.skeleton, cameras=first.cameras if same_names else ()
    )
    return _once(whole)


def _once(whole: Predictions) -> Predictions:
    """Every entry once, in order."""
    whole = whole.select(np.lexsort((*whole.views.T, whole.n_views, whole.method, whole.row)))
    again = whole.row[1:] == whole.row[:-1]
    apart = again & ~(_near(whole.truth_mm, 1e-3).all(1) & (whole.group[1:] == whole.group[:-1]))
    if apart.any():
        row = whole.row[1:][apart][0]
        raise TriposeError(
            f"the predictions do not agree about the truth or the group of row {row}: they are of different data sets"
        )
    double = again & (whole.method[1:] == whole.method[:-1]) & (whole.views[1:] == whole.views[:-1]).all(1)
    contradicts = double & (_near(whole.keypoints_mm, _SAME_MM).mean(1) < 0.5)
    if contradicts.any():
        i = int(contradicts.argmax())
        raise TriposeError(
            f"row {whole.row[i]} was predicted by {str(whole.method[i])!r} from the same views twice, with different "
            "results: two models have the same name, or an old file was added to a new one"
        )
    return whole.select(np.concatenate([[True], ~double])[: len(whole)])


def _near(keypoints_mm: Float[np.ndarray, "entry joint 3"], tolerance_mm: float) -> Bool[np.ndarray, "others joint"]:
    """Where each entry says the same as the one before it; NaN is the same as NaN."""
    a, b = keypoints_mm[1:], keypoints_mm[:-1]
    near: Bool[np.ndarray, "others joint"] = np.isclose(a, b, rtol=0, atol=tolerance_mm, equal_nan=True).all(2)
    return near


def _skeleton(name: str, joints: tuple[str, ...], root: str, path: Path) -> Skeleton:
    if name not in SKELETONS:
        return replace(custom(name, joints), root=root or None)
    if SKELETONS[name].joints != joints:
        raise TriposeError(f"{path} has joints that are not those of skeleton {name!r}")
    return SKELETONS[name]
