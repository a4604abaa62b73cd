"""CMU Panoptic: its original files and the protocols that results on it are published under."""
