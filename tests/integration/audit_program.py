"""The program, for `torch.distributed` to start again: `python -m integration.audit_program audit …`."""

from segaudit.cli import main

if __name__ == "__main__":
    main()
