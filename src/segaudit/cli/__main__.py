"""`python -m segaudit.cli`: the same program as the console script `segaudit`."""

from segaudit.cli import main

if __name__ == "__main__":
    main()
