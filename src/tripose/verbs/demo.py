"""``tripose demo``: the sample recording, from videos to files, overlays and a report."""

from __future__ import annotations

from pathlib import Path

from tripose.formats.export import export
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.verbs.keypoints import Progress, keypoints_of
from tripose.verbs.predict import predict
from tripose.verbs.sample import sample_recording
from tripose.verbs.view import view


def demo(out: Path, progress: Progress | None = None) -> Pose3D:
    """Run everything on the sample recording; the files are ``balancing.*``, ``overlay-*.mp4`` and ``report.html``.

    Args:
        out: folder for the results.
        progress: told after every frame.

    Raises:
        TriposeError: the sample cannot be fetched, or the folder cannot be written to.
    """
    recording = Recording.open(sample_recording())
    poses = predict(recording, out=out, progress=progress)
    for suffix in (".trc", ".c3d", ".csv"):
        export(poses, out / f"{recording.name}{suffix}")
    view(poses, recording, out, pose2d=keypoints_of(recording, out=out))
    view(poses, recording, out / "report.html")
    return poses
