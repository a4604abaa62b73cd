"""Boxes of a detector, on rendered videos of a person."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.geometry.crops import person_box
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.verbs.prepare_boxes import detected

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scene(bodies, tmp_path_factory):
    """Three small videos, of the first of which only the first half is told."""
    from tripose.data.synthetic.film import film
    from tripose.verbs import synth

    folder = tmp_path_factory.mktemp("film") / "stroll"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "film", partial(film, size_px=(480, 360)))
        synth.synth_recording(3, 4, folder, views=3)
    recording, truth = Recording.open(folder), Pose3D.load(folder / "truth.nc")
    sources = {name: folder / f"{name}.mp4" for name in recording.cameras.names}
    return Scene("stroll", recording.cameras, sources, np.arange(4), truth.position_mm[:, 0], truth.skeleton)


def test_the_boxes_are_around_the_person(scene):
    found, said = detected(lambda: (scene, ["something"]))
    assert said[0] == "something"
    each = [scene.cameras.select([n]) for n in scene.cameras.names]
    seen = np.isfinite(found.box_px).all(-1)
    assert seen.mean() > 0.7
    for row, view in np.argwhere(seen):
        true = person_box(each[view], found.keypoints_mm[row], 1.0)
        left, top, right, bottom = found.box_px[row, view]
        assert right - left == pytest.approx(bottom - top)
        assert 0.8 < (right - left) / (true[2] - true[0]) < 1.8
        assert np.abs([(left + right) / 2 - true[::2].mean(), (top + bottom) / 2 - true[1::2].mean()]).max() < 60


def test_nobody_where_the_truth_says(scene):
    elsewhere = replace(scene, keypoints_mm=scene.keypoints_mm + np.array([40000.0, 0, 0]))
    with pytest.raises(TriposeError, match="stroll: the detector finds the person in none of the images"):
        detected(lambda: (elsewhere, []))
