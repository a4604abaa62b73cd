"""Keypoints as a detector would give them, simulated: random people, random rigs, and what goes wrong between them."""
