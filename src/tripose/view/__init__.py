"""Looking at poses: a self-contained page, skeletons drawn into the videos, a recording for the rerun viewer."""

from tripose.view.overlay import overlay
from tripose.view.report import report
from tripose.view.rerun import write_rrd

__all__ = ["overlay", "report", "write_rrd"]
