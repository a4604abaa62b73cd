"""The sample recording: one person balancing on a platform and a bystander, four cameras, 100 frames at 60 fps.

It is the demonstration data of Pose2Sim (BSD-3-Clause, David Pagnon and contributors), taken out of the wheel
``pose2sim==0.10.49`` of the Python Package Index, checked by its hash and cached. The face is blurred by its makers.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tripose.errors import TriposeError
from tripose.formats.writing import atomic

PACKAGE = "pose2sim==0.10.49"
SHA256 = "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1"
_INSIDE = "Pose2Sim/Demo_SinglePerson/"
# Our name -> name in the wheel. The licence asks to travel with the files.
_FILES = {
    "LICENSE": "pose2sim-0.10.49.dist-info/licenses/LICENSE",
    "calibration/Calib.qca.txt": _INSIDE + "calibration/Calib.qca.txt",
    **{f"videos/cam0{i}.mp4": f"{_INSIDE}videos/cam0{i}.mp4" for i in (1, 2, 3, 4)},
}


def cache_folder() -> Path:
    """Where downloads are kept: ``$TRIPOSE_CACHE``, else ``tripose`` in the user's cache folder."""
    if "TRIPOSE_CACHE" in os.environ:
        return Path(os.environ["TRIPOSE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tripose"


def sample_recording(wheel: Path | None = None) -> Path:
    """The folder of the sample recording; fetched on the first call.

    Args:
        wheel: the package's wheel if it is already at hand; None asks pip for it.

    Raises:
        TriposeError: pip cannot fetch the package, or it is not the one that is expected.
    """
    folder = cache_folder() / "balancing"
    if all((folder / name).exists() for name in _FILES):
        return folder
    with tempfile.TemporaryDirectory() as temporary:
        path = wheel or _download(Path(temporary))
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise TriposeError(f"{path.name}: the sha256 is not the expected {SHA256[:12]}...; not used")
        with zipfile.ZipFile(path) as archive:
            for name, packed in _FILES.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic(target) as part:
                    part.write_bytes(archive.read(packed))
    return folder


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", PACKAGE]
    done = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise TriposeError(f"the sample recording lies in the package {PACKAGE}, which pip could not fetch: {last}")
    return wheels[0]
