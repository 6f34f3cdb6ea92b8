"""`python -m src.cli`: the same program as the console script `segaudit`, run from a checkout."""

from segaudit.cli import main

if __name__ == "__main__":
    main()
