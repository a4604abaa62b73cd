"""Human3.6M: the original files, and who does what in them."""
