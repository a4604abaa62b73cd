"""The rerun recording, read back by rerun itself."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tripose.drawing import write_rrd
from tripose.errors import TriposeError
from tripose.skeleton import COCO17
from walkers import rig, walk


def test_rerun_reads_the_recording_back(tmp_path):
    chunk = pytest.importorskip("rerun.chunk")
    poses = walk(60, persons=2)
    write_rrd(poses, tmp_path / "a.rrd", cameras=rig())
    assert [p.name for p in tmp_path.iterdir()] == ["a.rrd"]
    columns = {}
    for part in chunk.RrdReader(tmp_path / "a.rrd").stream():
        batch = part.to_record_batch()
        columns |= {(str(part.entity_path), name): batch.column(name) for name in batch.schema.names}
    positions = columns["/world/person_1/joints", "Points3D:positions"]
    assert len(positions) == 60
    assert len(positions[0]) == 17
    assert len(positions[35]) == 16  # the wrist is missing
    np.testing.assert_allclose(np.array(positions[9].as_py()), poses.position_mm[9, 1], rtol=1e-5)
    strips = columns["/world/person_0/bones", "LineStrips3D:strips"]
    assert len(strips[0]) == len(COCO17.bones)
    assert len(strips[35]) == len(COCO17.bones) - 1
    assert {entity for entity, name in columns if name == "Pinhole:image_from_camera"} >= {"/world/cameras/front"}
    assert ("/world/person_0/joints", "frame") in columns


def test_a_missing_folder_or_library_is_named(tmp_path, monkeypatch):
    pytest.importorskip("rerun")
    with pytest.raises(TriposeError, match=r"cannot be written: there is no folder .*nowhere"):
        write_rrd(walk(3), tmp_path / "nowhere" / "a.rrd")
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(TriposeError, match=r"'rerun-sdk'.*pip install 'tripose\[view\]'"):
        write_rrd(walk(3), tmp_path / "a.rrd")
