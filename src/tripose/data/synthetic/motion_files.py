"""Motion that users bring: a folder of ``.bvh`` files and of ``.npz`` files with joint positions, read as poses."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion import retarget
from tripose.data.synthetic.motion_bvh import read_bvh
from tripose.errors import TriposeError
from tripose.skeleton import LIMB_JOINTS

# Our joint -> what BVH files call it, in lower case and without "_-.", S being left, right, l or r; the first name that
# a file has is taken. LeftShoulder is a collarbone where there is a LeftArm, and the shoulder where there is not.
_BVH_SIDE_NAMES = {
    "hip": ("Supleg", "Sthigh", "upperlegS", "thighS", "Ship", "hipS"),
    "knee": ("Sleg", "Scalf", "Sshin", "Slowleg", "Slowerleg", "lowerlegS", "shinS", "calfS", "Sknee", "kneeS"),
    "ankle": ("Sfoot", "footS", "Sankle", "ankleS"),
    "big_toe": ("Stoebase", "Stoe", "toesS", "toeS", "Sball", "ballS"),
    "shoulder": ("Sarm", "Supperarm", "Suparm", "upperarmS", "Sshoulder", "shoulderS"),
    "elbow": ("Sforearm", "Slowarm", "Slowerarm", "lowerarmS", "forearmS", "Selbow", "elbowS"),
    "wrist": ("Shand", "handS", "Swrist", "wristS"),
}
_BVH_NAMES = {"neck": ("neck", "neck1", "neck01"), "head_top": ("head end", "headend", "headtop", "headtopend", "head")}


def read_motions(folder: Path | str) -> list[Float[np.ndarray, "_ bone 3"]]:
    """Read every motion file of a folder, in order of their names, as poses (see `retarget`).

    ``.npz``: the array ``joints`` holds joint names (``left_hip``, ...; see `MOTION_JOINTS`), every other array is a
    clip [frame, joint, 3], mm, z up; NaN where unknown. ``.bvh``: joints by their usual names.

    Raises:
        TriposeError: no such folder, no motion in it, or a file that is damaged or lacks joints that are needed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TriposeError(f"{folder} is not a folder; motion is a folder of .bvh or .npz files")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".bvh", ".npz"))
    motions = [_read(clip, file) for file in files for clip in _clips(file)]
    motions = [m for m in motions if len(m)]
    if not motions:
        raise TriposeError(f"{folder} holds no motion: no .bvh or .npz file in it has a complete frame")
    return motions


def _read(clip: dict[str, np.ndarray], file: Path) -> Float[np.ndarray, "kept bone 3"]:
    try:
        return retarget(clip)
    except TriposeError as error:
        raise TriposeError(f"{file}: {error}") from None


def _clips(file: Path) -> list[dict[str, np.ndarray]]:
    """The motions of a file: joint name -> [frame 3]."""
    if file.suffix.lower() == ".bvh":
        return [_rename(read_bvh(file), file)]
    try:
        with np.load(file, allow_pickle=False) as arrays:
            clips = {name: np.asarray(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TriposeError(f"{file} cannot be read as .npz, it is damaged or holds objects: {error}") from None
    if "joints" not in clips:
        raise TriposeError(f"{file} has no array 'joints' with the names of the joints")
    names = [str(j) for j in clips.pop("joints").ravel()]
    for name, clip in clips.items():
        if clip.ndim != 3 or clip.shape[1:] != (len(names), 3) or clip.dtype.kind not in "fiu":
            raise TriposeError(
                f"{file}: {name!r} must be numbers [frame, {len(names)}, 3], got {clip.dtype} {clip.shape}"
            )
    return [{joint: clip[:, i] for i, joint in enumerate(names)} for clip in clips.values()]


def _rename(joints: dict[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
    """The joints of a BVH file by our names."""
    plain = {"".join(c for c in name.lower() if c not in "_-."): at for name, at in joints.items()}
    wanted = dict(_BVH_NAMES)
    for joint, patterns in _BVH_SIDE_NAMES.items():
        for side in ("left", "right"):
            wanted[f"{side}_{joint}"] = tuple(p.replace("S", s) for s in (side, side[0]) for p in patterns)
    found = {ours: next((plain[n] for n in theirs if n in plain), None) for ours, theirs in wanted.items()}
    lacking = [j for j in LIMB_JOINTS if found[j] is None]
    if lacking:
        what, there = lacking[0].replace("_", " "), ", ".join(list(joints)[:40])
        raise TriposeError(f"{file}: no joint looks like the {what}; its joints are {there}")
    return {name: at for name, at in found.items() if at is not None}
