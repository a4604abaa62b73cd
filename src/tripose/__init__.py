"""Metric 3D human pose from calibrated multi-camera video."""
