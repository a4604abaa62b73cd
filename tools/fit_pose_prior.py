"""Writes `src/tripose/weights/pose_prior.safetensors` from motion capture of CMU (mocap.cs.cmu.edu).

    python tools/fit_pose_prior.py cmu_eval_joints_every4th_mm.npz

The file holds clips [frame, 38 joints, 3], mm, z up, under the names ``split__action__clip``. Clips are dealt out in
turn, action by action, to two halves: ``train`` for training sets, ``test`` for benchmarks. What is stored is a kernel
density of poses without time, size or place; no clip can be made from it again. CMU's motion is free for any use but
resale as motion data.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tripose.data.synthetic.motion import retarget
from tripose.data.synthetic.prior_fit import fit_prior

OUT = Path(__file__).resolve().parents[1] / "src" / "tripose" / "weights" / "pose_prior.safetensors"
# Our joint -> CMU's.
JOINTS = {
    "left_hip": 2, "left_knee": 3, "left_ankle": 4, "left_big_toe": 5,
    "right_hip": 8, "right_knee": 9, "right_ankle": 10, "right_big_toe": 11,
    "left_shoulder": 21, "left_elbow": 22, "left_wrist": 23,
    "right_shoulder": 30, "right_elbow": 31, "right_wrist": 32,
    "neck": 16, "head_top": 19,
}  # fmt: skip


def deal(clips: list[str]) -> dict[str, list[str]]:
    """The two halves of the clips' names."""
    actions: dict[str, list[str]] = {}
    for clip in sorted(clips):
        actions.setdefault(clip.split("__")[1], []).append(clip)
    halves: dict[str, list[str]] = {"train": [], "test": []}
    for names in actions.values():
        halves["train"] += names[0::2]
        halves["test"] += names[1::2]
    return halves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path, help="the .npz of clips")
    source = parser.parse_args().motion
    arrays = {}
    with np.load(source, allow_pickle=False) as clips:
        halves = deal(clips.files)
        for half, names in halves.items():
            # The first frame of every clip is the same T-pose, which nobody held.
            motions = [retarget({j: clips[n][1:, i].astype(float) for j, i in JOINTS.items()}) for n in names]
            prior = fit_prior(motions)
            arrays[f"{half}.poses"] = prior.poses.astype(np.float16)
            arrays[f"{half}.spread"] = prior.spread.astype(np.float16)
            print(f"{half}: {len(names)} clips, {sum(map(len, motions))} frames, {len(prior.poses)} kernels")
    save_file(arrays, OUT, metadata={"source": "CMU Graphics Lab Motion Capture Database", "clips": json.dumps(halves)})
    print(OUT.name, OUT.stat().st_size, hashlib.sha256(OUT.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
