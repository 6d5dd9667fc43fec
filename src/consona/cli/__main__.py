"""`python -m consona.cli` is `consona`."""

from consona.cli import main

if __name__ == "__main__":
    main()
