"""People that never were: bodies, clothes, rooms, rigs and their pictures, with exact truth."""
