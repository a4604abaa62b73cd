"""Who does what in Human3.6M: subjects, cameras, scenes, joints, and what the original files are called.

A scene is an action and its trial, ``Directions-1``, as published results count them. The files are called otherwise:
a trial is a bare name or a name with a number, which of them depends on subject and action, and a number is no trial's.
"""

from __future__ import annotations

from tripose.errors import TriposeError
from tripose.skeleton import H36M17

TRAIN_SUBJECTS = ("S1", "S5", "S6", "S7", "S8")
TEST_SUBJECTS = ("S9", "S11")
SUBJECTS = (*TRAIN_SUBJECTS, *TEST_SUBJECTS)
"""Those whose poses are public; S2, S3, S4 and S10 are kept back."""

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SIZE_PX = {"54138969": (1000, 1002), "55011271": (1000, 1000), "58860488": (1000, 1000), "60457274": (1000, 1002)}
"""Width and height of the images. The videos have the last word: images of S7 in 55011271 are known with 1002 rows, and
with labels that fit as they are."""

ACTIONS = (
    "Directions Discussion Eating Greeting Phoning Posing Purchases Sitting SittingDown Smoking TakingPhoto Waiting "
    "Walking WalkingDog WalkingTogether"
).split()
SCENES = tuple(f"{action}-{trial}" for action in ACTIONS for trial in (1, 2))

DAMAGED = frozenset({("S9", "Greeting-2"), ("S9", "SittingDown-2"), ("S9", "Waiting-1")})
"""Subject and scene whose poses do not fit the images; results are given with and without them."""

MISSING_VIEWS = frozenset({("S11", "Directions-2", "54138969")})
"""Subject, scene and camera whose video is broken."""

_JOINT_OF_32 = {
    "pelvis": 0,
    "right_hip": 1,
    "right_knee": 2,
    "right_ankle": 3,
    "left_hip": 6,
    "left_knee": 7,
    "left_ankle": 8,
    "spine": 12,
    "neck": 13,
    "nose": 14,
    "head_top": 15,
    "left_shoulder": 17,
    "left_elbow": 18,
    "left_wrist": 19,
    "right_shoulder": 25,
    "right_elbow": 26,
    "right_wrist": 27,
}
JOINTS_OF_32 = tuple(_JOINT_OF_32[joint] for joint in H36M17.joints)
"""For every joint of the skeleton h36m17 its place among the 32 of the files."""

_FILE_WORD = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog", "WalkingTogether": "WalkTogether"}
_S1_WORD = {"TakingPhoto": "TakingPhoto", "WalkingDog": "WalkingDog"}

# The numbers behind the file names of trials 1 and 2; "" is the bare name. So it is where nothing is said below.
_USUAL = ("1", "")
_NUMBERS = {
    ("S1", "Eating"): ("2", ""),
    ("S1", "Sitting"): ("1", "2"),
    ("S1", "SittingDown"): ("2", ""),
    ("S5", "Directions"): ("1", "2"),
    ("S5", "Discussion"): ("2", "3"),
    ("S5", "Greeting"): ("1", "2"),
    ("S5", "SittingDown"): ("", "1"),
    ("S5", "TakingPhoto"): ("", "2"),
    ("S5", "Waiting"): ("1", "2"),
    ("S6", "Eating"): ("1", "2"),
    ("S6", "Posing"): ("2", ""),
    ("S6", "Sitting"): ("1", "2"),
    ("S6", "TakingPhoto"): ("", "1"),
    ("S6", "Waiting"): ("3", ""),
    ("S7", "Phoning"): ("2", ""),
    ("S7", "SittingDown"): ("", "1"),
    ("S7", "TakingPhoto"): ("", "1"),
    ("S7", "Waiting"): ("1", "2"),
    ("S7", "Walking"): ("1", "2"),
    ("S8", "SittingDown"): ("", "1"),
    ("S8", "WalkingTogether"): ("1", "2"),
    ("S9", "Discussion"): ("1", "2"),
    ("S9", "SittingDown"): ("", "1"),
    ("S11", "Discussion"): ("1", "2"),
    ("S11", "Greeting"): ("2", ""),
    ("S11", "Phoning"): ("3", "2"),
    ("S11", "SittingDown"): ("", "1"),
    ("S11", "Smoking"): ("2", ""),
}


def original_name(subject: str, scene: str) -> str:
    """What the original files of a scene are called, without camera and suffix: ``SittingDown 1``.

    Args:
        subject: ``S1``.
        scene: ``SittingDown-2``.

    Raises:
        TriposeError: no such subject or scene.
    """
    if subject not in SUBJECTS:
        raise TriposeError(f"no subject {subject!r} of Human3.6M has public poses; those are {', '.join(SUBJECTS)}")
    if scene not in SCENES:
        raise TriposeError(f"Human3.6M has no scene {scene!r}; scenes are like 'Directions-1', of {', '.join(ACTIONS)}")
    action, trial = scene.split("-")
    words = _FILE_WORD | _S1_WORD if subject == "S1" else _FILE_WORD
    number = _NUMBERS.get((subject, action), _USUAL)[int(trial) - 1]
    return f"{words.get(action, action)} {number}".rstrip()


def original_names(subject: str, scene: str) -> tuple[str, ...]:
    """`original_name`, and what many have renamed it to: S1's ``TakingPhoto`` to ``Photo``, as other subjects have it.

    Raises:
        TriposeError: no such subject or scene.
    """
    name = original_name(subject, scene)
    word, *number = name.split(" ")
    return tuple(dict.fromkeys([name, " ".join([_FILE_WORD.get(word, word), *number])]))


def scene_of(subject: str, name: str) -> str | None:
    """The scene whose original files have this name, the inverse of `original_name`; None for other files (``_ALL 1``).

    Raises:
        TriposeError: no such subject.
    """
    return next((scene for scene in SCENES if name in original_names(subject, scene)), None)
