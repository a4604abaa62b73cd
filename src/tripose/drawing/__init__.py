"""Looking at poses: a self-contained page, skeletons drawn into the videos, a recording for the rerun viewer."""

from tripose.drawing.overlays import overlay
from tripose.drawing.page import report
from tripose.drawing.rrd import write_rrd

__all__ = ["overlay", "report", "write_rrd"]
