"""`python -m consona.cli` is `consona`."""

from consona.cli import main

main()
