"""People in one image: boxes and 2D keypoints."""
