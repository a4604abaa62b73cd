"""A model of one data set on another one: only the joints that mean the same in both count."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tripose.data.batch import Sample, Samples
from tripose.data.joints import TRANSFER_JOINTS
from tripose.errors import TriposeError
from tripose.skeleton import Skeleton


@dataclass(frozen=True)
class Transferred:
    """A data set with the joints of a model that was made for another one: the truth of `TRANSFER_JOINTS` alone.

    The first of them, the right wrist, is the root of relative errors, as in the ICCV 2019 paper's transfer from CMU
    Panoptic to Human3.6M.

    Attributes:
        samples: the data set.
        joints: of the model.

    Raises:
        TriposeError: one of the two lacks such a joint.
    """

    samples: Samples
    joints: Skeleton

    def __post_init__(self) -> None:
        """Check that both have the joints."""
        for skeleton in (self.samples.skeleton, self.joints):
            lacking = [joint for joint in TRANSFER_JOINTS if joint not in skeleton.joints]
            if lacking:
                raise TriposeError(
                    f"skeleton {skeleton.name} has no {lacking[0]}: {self.joints.name} and "
                    f"{self.samples.skeleton.name} cannot be compared"
                )

    @property
    def skeleton(self) -> Skeleton:
        """The model's joints, under another name and with another root."""
        return replace(self.joints, name=f"{self.joints.name}-transfer", root=TRANSFER_JOINTS[0])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """A sample whose other joints have no truth."""
        sample = self.samples[index]
        truth = np.full((len(self.joints), 3), np.nan)
        truth[self.joints.indices(TRANSFER_JOINTS)] = sample.keypoints_mm[
            self.samples.skeleton.indices(TRANSFER_JOINTS)
        ]
        return replace(sample, keypoints_mm=truth, visible=None)
