from __future__ import annotations

import pytest

from tripose.data.human36m.protocol import (
    CAMERAS,
    DAMAGED,
    JOINTS_OF_32,
    MISSING_VIEWS,
    SCENES,
    SIZE_PX,
    SUBJECTS,
    original_name,
    original_names,
    scene_of,
)
from tripose.errors import TriposeError
from tripose.skeleton import H36M17

# Trials 1 and 2 of the 15 actions, as the table `mapping` of the data set's metadata lists them for every subject.
FILES = {
    "S1": "Directions 1|Directions|Discussion 1|Discussion|Eating 2|Eating|Greeting 1|Greeting|Phoning 1|Phoning"
    "|Posing 1|Posing|Purchases 1|Purchases|Sitting 1|Sitting 2|SittingDown 2|SittingDown|Smoking 1|Smoking"
    "|TakingPhoto 1|TakingPhoto|Waiting 1|Waiting|Walking 1|Walking|WalkingDog 1|WalkingDog|WalkTogether 1"
    "|WalkTogether",
    "S5": "Directions 1|Directions 2|Discussion 2|Discussion 3|Eating 1|Eating|Greeting 1|Greeting 2|Phoning 1"
    "|Phoning|Posing 1|Posing|Purchases 1|Purchases|Sitting 1|Sitting|SittingDown|SittingDown 1|Smoking 1"
    "|Smoking|Photo|Photo 2|Waiting 1|Waiting 2|Walking 1|Walking|WalkDog 1|WalkDog|WalkTogether 1|WalkTogether",
    "S6": "Directions 1|Directions|Discussion 1|Discussion|Eating 1|Eating 2|Greeting 1|Greeting|Phoning 1|Phoning"
    "|Posing 2|Posing|Purchases 1|Purchases|Sitting 1|Sitting 2|SittingDown 1|SittingDown|Smoking 1|Smoking"
    "|Photo|Photo 1|Waiting 3|Waiting|Walking 1|Walking|WalkDog 1|WalkDog|WalkTogether 1|WalkTogether",
    "S7": "Directions 1|Directions|Discussion 1|Discussion|Eating 1|Eating|Greeting 1|Greeting|Phoning 2|Phoning"
    "|Posing 1|Posing|Purchases 1|Purchases|Sitting 1|Sitting|SittingDown|SittingDown 1|Smoking 1|Smoking|Photo"
    "|Photo 1|Waiting 1|Waiting 2|Walking 1|Walking 2|WalkDog 1|WalkDog|WalkTogether 1|WalkTogether",
    "S8": "Directions 1|Directions|Discussion 1|Discussion|Eating 1|Eating|Greeting 1|Greeting|Phoning 1|Phoning"
    "|Posing 1|Posing|Purchases 1|Purchases|Sitting 1|Sitting|SittingDown|SittingDown 1|Smoking 1|Smoking"
    "|Photo 1|Photo|Waiting 1|Waiting|Walking 1|Walking|WalkDog 1|WalkDog|WalkTogether 1|WalkTogether 2",
    "S9": "Directions 1|Directions|Discussion 1|Discussion 2|Eating 1|Eating|Greeting 1|Greeting|Phoning 1|Phoning"
    "|Posing 1|Posing|Purchases 1|Purchases|Sitting 1|Sitting|SittingDown|SittingDown 1|Smoking 1|Smoking"
    "|Photo 1|Photo|Waiting 1|Waiting|Walking 1|Walking|WalkDog 1|WalkDog|WalkTogether 1|WalkTogether",
    "S11": "Directions 1|Directions|Discussion 1|Discussion 2|Eating 1|Eating|Greeting 2|Greeting|Phoning 3|Phoning 2"
    "|Posing 1|Posing|Purchases 1|Purchases|Sitting 1|Sitting|SittingDown|SittingDown 1|Smoking 2|Smoking"
    "|Photo 1|Photo|Waiting 1|Waiting|Walking 1|Walking|WalkDog 1|WalkDog|WalkTogether 1|WalkTogether",
}


def test_the_protocol_is_the_published_one():
    assert len(SCENES) == 30
    assert SCENES[:3] == ("Directions-1", "Directions-2", "Discussion-1")
    assert SCENES[-1] == "WalkingTogether-2"
    assert SUBJECTS == ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
    assert set(SIZE_PX) == set(CAMERAS)
    for subject, scene in (*DAMAGED, *((s, n) for s, n, _ in MISSING_VIEWS)):
        assert original_name(subject, scene)


def test_joints_are_the_published_choice():
    assert JOINTS_OF_32 == (3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19, 14)
    assert len(JOINTS_OF_32) == len(H36M17)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_names_are_those_of_the_data_sets_own_table(subject):
    assert [original_name(subject, scene) for scene in SCENES] == FILES[subject].split("|")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_two_scenes_share_a_file_and_names_lead_back(subject):
    names = [name for scene in SCENES for name in original_names(subject, scene)]
    assert len(set(names)) == len(names) == (34 if subject == "S1" else 30)
    for scene in SCENES:
        assert {scene_of(subject, name) for name in original_names(subject, scene)} == {scene}
    assert scene_of(subject, "_ALL 1") is None
    assert scene_of(subject, "Directions-1") is None


def test_damaged_scenes_are_the_files_known_to_be_damaged():
    assert {original_name(*pair) for pair in DAMAGED} == {"Greeting", "SittingDown 1", "Waiting 1"}


def test_mistakes():
    with pytest.raises(TriposeError, match=r"no subject 'S2' of Human3.6M has public poses; those are S1, S5"):
        original_name("S2", "Directions-1")
    with pytest.raises(TriposeError, match=r"no scene 'Walking'; scenes are like 'Directions-1', of Directions"):
        original_name("S1", "Walking")
