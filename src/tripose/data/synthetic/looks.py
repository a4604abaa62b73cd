"""What things look like: random clothes, skin, hair, walls and light."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from tripose.data.synthetic.patterns import CHECKS, CLOUDS, COLOUR, COLOUR2, FREQUENCY, GLOSS, N_MATERIAL, PATTERN
from tripose.data.synthetic.raster import Light

# Rows of a person's materials, in the order of `bodies.PARTS`.
_SKIN, _SHIRT, _TROUSERS, _LOWER_LEGS, _SHOES, _UPPER_SLEEVE, _LOWER_SLEEVE, _HAIR, _EYE = range(9)


def random_material(rng: np.random.Generator, frequency: tuple[float, float]) -> Float[np.ndarray, " material"]:
    """Two colours, dark ones more often, and any pattern of them.

    Args:
        rng: source of randomness.
        frequency: bounds of the pattern's frequency, 1/m.
    """
    material = np.zeros(N_MATERIAL)
    material[COLOUR : COLOUR + 3] = _colour(rng)
    material[COLOUR2 : COLOUR2 + 3] = _colour(rng)
    material[PATTERN] = rng.integers(CLOUDS + 1)
    material[FREQUENCY] = rng.uniform(*frequency)
    material[GLOSS] = rng.choice([0.0, 0.1])
    return material


def _colour(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """Half of the colours are near to grey, as most clothes and walls are."""
    colour = rng.uniform(0.02, 0.95, 3) ** 1.5
    if rng.random() < 0.5:
        colour = colour.mean() + (colour - colour.mean()) * rng.uniform(0.0, 0.4)
    return colour


def random_clothes(
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "part material"], Float[np.ndarray, " part"]]:
    """A person's materials, and how far each part stands off the skin (mm)."""
    skin = np.zeros(N_MATERIAL)
    tone = np.array([0.80, 0.56, 0.45]) * rng.uniform(0.18, 1.05)
    skin[:3] = skin[3:6] = tone * [1, rng.uniform(0.9, 1.05), rng.uniform(0.85, 1.05)]
    skin[GLOSS] = 0.25
    materials = np.tile(skin, (9, 1))
    shirt, trousers = random_material(rng, (20.0, 120.0)), random_material(rng, (20.0, 120.0))
    if rng.random() < 0.4:
        trousers[PATTERN] = 0
    thickness = rng.uniform((0, 2, 2, 2, 8, 2, 2, 5, 0), (0, 20, 15, 20, 8, 12, 12, 30, 0))
    long_legs, sleeves, long_sleeves = rng.random() < 0.7, rng.random() < 0.85, rng.random() < 0.45
    materials[_SHIRT], materials[_TROUSERS], materials[_SHOES] = shirt, trousers, random_material(rng, (20.0, 120.0))
    if rng.random() < 0.08:  # overalls, or a suit of one colour
        materials[_TROUSERS] = trousers = shirt
    for part, worn, like in (
        (_LOWER_LEGS, long_legs, trousers),
        (_UPPER_SLEEVE, sleeves, shirt),
        (_LOWER_SLEEVE, sleeves and long_sleeves, shirt),
    ):
        if worn:
            materials[part] = like
        else:
            thickness[part] = 0
    if rng.random() < 0.1:  # barefoot
        materials[_SHOES], thickness[_SHOES] = skin, 0
    hair = np.array([0.25, 0.16, 0.09]) * rng.uniform(0.1, 3.0)
    materials[_HAIR] = [*hair, 0.02, 0.02, 0.02, CLOUDS, 40, 0.15]
    if rng.random() < 0.1:  # bald, or a cap
        materials[_HAIR] = skin if rng.random() < 0.5 else random_material(rng, (20.0, 120.0))
    materials[_EYE] = [0.85, 0.85, 0.85, 0.1, 0.1, 0.1, CLOUDS, 60, 0.6]
    return materials.astype(np.float32), thickness


def random_walls(rng: np.random.Generator) -> Float32[np.ndarray, "6 material"]:
    """Materials of -x, +x, -y, +y, floor, ceiling: half of the rooms are of one colour, as laboratories are."""
    walls = np.stack([random_material(rng, (2.0, 14.0)) for _ in range(6)])
    walls[:, COLOUR2 : COLOUR2 + 3] = walls[:, :3] * 0.6 + walls[:, COLOUR2 : COLOUR2 + 3] * 0.4
    walls[:, GLOSS] = 0
    if rng.random() < 0.5:
        walls[:4] = walls[0]
        walls[:4, COLOUR2 : COLOUR2 + 3] = walls[0, :3] * rng.uniform(0.7, 1.2)
        walls[:4, PATTERN] = rng.choice([0, CHECKS, CLOUDS])
    return walls.astype(np.float32)


def random_light(rng: np.random.Generator) -> Light:
    """One distant light from above, never far from white, and light from all around."""
    direction = np.array([rng.normal(), rng.normal(), rng.uniform(0.8, 2.5)])
    colour = rng.uniform(0.3, 1.0) * np.clip(1 + 0.15 * rng.normal(size=3), 0.5, 1.4)
    return Light(
        (direction / np.linalg.norm(direction)).astype(np.float32), colour.astype(np.float32), rng.uniform(0.25, 0.7)
    )
