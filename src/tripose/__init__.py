"""Metric 3D human pose from calibrated multi-camera video.

```python
import tripose as tp

recording = tp.Recording.open("trials/walk01")
poses = tp.predict(recording)
```

Importing the package loads NumPy and PyTorch only; everything else is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tripose.cameras import Cameras as Cameras
    from tripose.errors import TriposeError as TriposeError
    from tripose.formats.calibration import read_calibration as read_calibration
    from tripose.formats.calibration import write_calibration_toml as write_calibration_toml
    from tripose.formats.export import export as export
    from tripose.formats.keypoints import read_keypoints as read_keypoints
    from tripose.lifting import lift as lift
    from tripose.models.weights import load_model as load_model
    from tripose.pose import Pose2D as Pose2D
    from tripose.pose import Pose3D as Pose3D
    from tripose.recording import Recording as Recording
    from tripose.skeleton import Skeleton as Skeleton
    from tripose.triangulation import triangulate as triangulate
    from tripose.verbs.check import check as check
    from tripose.verbs.convert import convert as convert
    from tripose.verbs.demo import demo as demo
    from tripose.verbs.predict import predict as predict
    from tripose.verbs.view import view as view

__version__ = "0.1.0"

_HOME = {
    "Cameras": "cameras",
    "TriposeError": "errors",
    "read_calibration": "formats.calibration",
    "write_calibration_toml": "formats.calibration",
    "export": "formats.export",
    "read_keypoints": "formats.keypoints",
    "triangulate": "triangulation",
    "lift": "lifting",
    "load_model": "models.weights",
    "Pose2D": "pose",
    "Pose3D": "pose",
    "Recording": "recording",
    "Skeleton": "skeleton",
    "check": "verbs.check",
    "convert": "verbs.convert",
    "demo": "verbs.demo",
    "predict": "verbs.predict",
    "view": "verbs.view",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'tripose' has no attribute {name!r}")
    return getattr(import_module(f"tripose.{_HOME[name]}"), name)
