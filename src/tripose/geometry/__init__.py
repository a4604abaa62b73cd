"""Pure functions on tensors: triangulation, crops, heatmaps."""
