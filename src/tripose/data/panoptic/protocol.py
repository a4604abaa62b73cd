"""The protocols that results on CMU Panoptic are published under, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tripose.skeleton import COCO17, PANOPTIC19

Spans = tuple[tuple[int, int], ...]
"""First and last frame, both included."""


def hd(*numbers: int) -> tuple[str, ...]:
    """Names of HD cameras as the calibration has them: 3 -> ``00_03``."""
    return tuple(f"00_{number:02d}" for number in numbers)


HD_CAMERAS = hd(*range(31))


@dataclass(frozen=True)
class Split:
    """What a protocol uses for one purpose.

    Attributes:
        sequences: their names.
        cameras: all that may be used.
        views: the fewest and the most of them that see a person at once; drawn at random where they differ.
        every: every n-th file with poses of a sequence counts, the first one included.
        spans: frames that count; sequences that are not here count as a whole.
    """

    sequences: tuple[str, ...]
    cameras: tuple[str, ...]
    views: tuple[int, int]
    every: int = 1
    spans: Mapping[str, Spans] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """How a number in a table was measured.

    Attributes:
        splits: by their names.
        joints: those that count, by their names in COCO17 or PANOPTIC19.
        one_person: whether only the first body of a frame counts.
        least_score: joints whose score is not above it do not count, nor, where it is not zero, do people whose pelvis
            is one of them.
    """

    splits: Mapping[str, Split]
    joints: tuple[str, ...]
    one_person: bool
    least_score: float = 0.0


# One person: Iskakov et al., "Learnable Triangulation of Human Pose", ICCV 2019.
#
# Said there: single-person scenes, split as by Xiang et al. ("Monocular Total Capture", CVPR 2019); 4 cameras for
# validation and up to 27 others for training; 17 of 19 joints, without neck and body centre, which are those of COCO.
# Which scenes and cameras these are, the authors say, is in issue #19 of karfly/learnable-triangulation-pytorch (issue
# #55 there). The comment that says it could not be consulted. Known from elsewhere:
#
# - Scenes. The first author's class for this data set (mvn/datasets/cmu.py in blufzzz/learnable-triangulation-pytorch)
#   keeps predictions for 171204_pose5 and 171204_pose6 apart from those for the others. The fork that followed the
#   issue (Samleo8/learnable-triangulation-pytorch, experiments/cmupanoptic/cmu_frames.yaml and
#   mvn/datasets/cmupanoptic.py) has just these two for validation, and lists seven for training.
# - Frames: the same file of that fork. Whether they are the paper's is not known: the first author's class can leave
#   out frames that a file sample_list.pkl does not list.
# - The person: the first author's class takes the first body of a file.
# - Number of views: random, from 10 to all, by the defaults of the published collate function.
# - Cameras for validation: not known. CHOSEN here: 1, 2, 10 and 13, those of AdaFuse (below), which later tables use;
#   for training the other 27. A number measured with them can be compared with AdaFuse's, and with the paper's only
#   loosely.
# - Every n-th frame: not known. CHOSEN here: every one.
ADAFUSE_CAMERAS = {4: hd(1, 2, 10, 13), 6: hd(1, 2, 3, 10, 13, 23)}
"""Number of views -> test cameras of AdaFuse (IJCV 2021), told by its author in zhezh/adafuse-3d-human-pose, issue #7;
those for 3 and 5 views are lost. One person, but not the ICCV paper's protocol."""

_ALONE: dict[str, Spans] = {
    "171026_pose1": ((380, 7300), (7900, 14500), (15400, 22400)),
    "171026_pose2": ((1000, 7500), (8000, 14000)),
    "171026_pose3": ((1000, 3000),),
    "171204_pose1": ((300, 4100), (4800, 8900), (10000, 13600), (14000, 18200), (18500, 22900), (23500, 27600)),
    "171204_pose2": (
        *((350, 4300), (5000, 8800), (9600, 13600), (14300, 18500)),
        *((19600, 23500), (24200, 28200), (28800, 32800), (33500, 37700)),
    ),
    "171204_pose3": ((500, 4400), (5400, 9000)),
    "171204_pose4": (
        *((500, 4300), (4900, 8800), (9400, 13200), (14200, 17800)),
        *((18700, 22500), (23050, 27050), (28000, 31600)),
    ),
    "171204_pose5": ((400, 4300), (5000, 8500), (9500, 13400), (14200, 18000), (19000, 22600), (23500, 27100)),
    "171204_pose6": ((1000, 4500), (5150, 9100), (9830, 13800), (14370, 18300), (19000, 22900)),
}
_ONE_VAL = ("171204_pose5", "171204_pose6")

SINGLE_PERSON = Protocol(
    splits={
        "train": Split(
            tuple(name for name in _ALONE if name not in _ONE_VAL),
            tuple(name for name in HD_CAMERAS if name not in ADAFUSE_CAMERAS[4]),
            views=(10, 27),
            spans=_ALONE,
        ),
        "val": Split(_ONE_VAL, ADAFUSE_CAMERAS[4], views=(4, 4), spans=_ALONE),
    },
    joints=COCO17.joints,
    one_person=True,
)

# Several people: Tu et al., "VoxelPose", ECCV 2020, and those after it; lib/dataset/panoptic.py in
# microsoft/voxelpose-pytorch: sequences, cameras, every 3rd file for training and every 12th for the test, the first 15
# joints, scores above 0.1, and no people without a pelvis.
MULTI_PERSON = Protocol(
    splits={
        "train": Split(
            (
                *("160422_ultimatum1", "160224_haggling1", "160226_haggling1", "161202_haggling1"),
                *("160906_ian1", "160906_ian2", "160906_ian3", "160906_band1", "160906_band2", "160906_band3"),
            ),
            hd(3, 6, 12, 13, 23),
            views=(5, 5),
            every=3,
        ),
        "val": Split(
            ("160906_pizza1", "160422_haggling1", "160906_ian5", "160906_band4"),
            hd(3, 6, 12, 13, 23),
            views=(5, 5),
            every=12,
        ),
    },
    joints=PANOPTIC19.joints[:15],
    one_person=False,
    least_score=0.1,
)

PROTOCOLS = {"single-person": SINGLE_PERSON, "multi-person": MULTI_PERSON}
"""By the names that users give."""

DAMAGED_VIDEOS = {("160906_band3", "00_03"): "damaged on the server too, whose maintainers have no other"}
"""Videos that nobody can read (panoptic-toolbox, issues #49, #66 and #79). Some later tables of the multi-person
protocol are from models that were trained without this sequence (openxrlab/xrmocap, converter of its training set)."""
