"""``python -m tripose.cli``."""

from tripose.cli import main

main()
