"""``tripose view``: poses to look at, as a report, as videos, or in the rerun viewer."""

from __future__ import annotations

from pathlib import Path

from tripose.errors import TriposeError
from tripose.pose import Pose2D, Pose3D
from tripose.recording import Recording


def view(poses: Pose3D, recording: Recording | None, path: Path | str, *, pose2d: Pose2D | None = None) -> list[Path]:
    """Write poses for the eye; the suffix says how.

    Args:
        poses: what to show.
        recording: where the cameras and videos come from; None shows the poses alone.
        path: ``.html`` for a report that plays, ``.rrd`` for the rerun viewer, a folder for one
            ``overlay-CAMERA.mp4`` per view with the skeleton drawn in.
        pose2d: detected keypoints, drawn into the overlay videos.

    Returns:
        The files written.

    Raises:
        TriposeError: overlays without videos, an unknown suffix, or a folder that cannot be written to.
    """
    path = Path(path)
    cameras = recording.cameras if recording else None
    if path.suffix == ".html":
        from tripose.drawing.page import report

        report(poses, path, cameras=cameras, title=poses.notes.get("recording", path.stem))
        return [path]
    if path.suffix == ".rrd":
        from tripose.drawing.rrd import write_rrd

        write_rrd(poses, path, cameras=cameras)
        return [path]
    if path.suffix and not path.is_dir():
        raise TriposeError(f"{path}: the suffix {path.suffix!r} is unknown; known are .html, .rrd, or a folder")
    if recording is None or not recording.videos:
        raise TriposeError(f"{path}: overlays are drawn into videos; name a recording that has some")
    from tripose.drawing.overlays import overlay
    from tripose.verbs.stages import make_folder

    make_folder(path)
    turned = [n for n, degrees in recording.rotate_deg.items() if degrees]
    if turned:
        raise TriposeError(f"{path}: overlays of videos that recording.yaml turns are not supported ({turned[0]})")
    return overlay(poses, recording.cameras, recording.videos, path, pose2d=pose2d)
