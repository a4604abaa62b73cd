"""Metric 3D human pose from calibrated multi-camera video."""

__version__ = "0.1.0"
