"""Where samples come from: what a network eats, augmentation, stored and synthetic sets."""
