"""The program, for Lightning to start again: `python audit_program.py audit …`."""

from segaudit.cli import main

if __name__ == "__main__":
    main()
