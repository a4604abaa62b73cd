"""``recording.yaml``: what a recording's folder cannot say by its file names.

```yaml
calibration: calibration/Calib_scene.toml
unit: m                     # of the calibration, when it is not its format's usual one
up: z                       # world axis that points up
fps: 60                     # of image folders and keypoint files
skeleton: body25b           # of the keypoint files
keypoints: pose-associated  # folder of 2D keypoints
videos:                     # camera name -> file; only needed where names do not match
  int_cam01_img: videos/cam01.mp4
rotate_deg:                 # clockwise, on top of the video's own rotation metadata
  int_cam01_img: 90
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tripose.cameras import Up
from tripose.errors import TriposeError


class RecordingFile(BaseModel):
    """The contents of ``recording.yaml``; paths are relative to its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calibration: Path | None = None
    unit: Literal["mm", "cm", "m"] | None = None
    up: Up | None = None
    fps: float | None = Field(default=None, gt=0)
    skeleton: str | None = None
    keypoints: Path | None = None
    videos: dict[str, Path] = Field(default_factory=dict)
    rotate_deg: dict[str, Literal[0, 90, 180, 270]] = Field(default_factory=dict)


def read_recording_file(path: Path) -> RecordingFile:
    """Read ``recording.yaml`` and make its paths absolute; an absent file says nothing.

    Raises:
        TriposeError: not YAML, an unknown key, or a wrong value; the key is named.
    """
    if not path.exists():
        return RecordingFile()
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TriposeError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise TriposeError(f"{path}: expected keys and values, got {type(content).__name__}")
    try:
        said = RecordingFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise TriposeError(
            f"{path}: {key}: {first['msg']}; known keys are {', '.join(RecordingFile.model_fields)}"
        ) from error
    here = path.parent
    return said.model_copy(
        update={
            "calibration": here / said.calibration if said.calibration else None,
            "keypoints": here / said.keypoints if said.keypoints else None,
            "videos": {name: here / p for name, p in said.videos.items()},
        }
    )
