"""A sample as it is stored: compressed crops, and the truth for every skeleton that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from tripose.cameras import Cameras
from tripose.data.batch import Sample


@dataclass(frozen=True)
class Rendered:
    """One person at one moment, ready for a shard.

    Attributes:
        jpeg: crops, one a view.
        cameras: of the crops.
        keypoints_mm: truth by skeleton name; NaN where unknown.
        visible: whether a view shows a joint, by skeleton name.
        group: what results are told apart by.
    """

    jpeg: tuple[bytes, ...]
    cameras: Cameras
    keypoints_mm: Mapping[str, Float[np.ndarray, "joint 3"]]
    visible: Mapping[str, Bool[np.ndarray, "view joint"]]
    group: str = ""

    def sample(self, skeleton: str) -> Sample:
        """The crops decoded, with the truth of one skeleton."""
        decoded = [cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_COLOR) for code in self.jpeg]
        return Sample(
            np.stack([image[..., ::-1] for image in decoded if image is not None]),
            self.cameras,
            self.keypoints_mm[skeleton],
            self.visible[skeleton],
            self.group,
        )
