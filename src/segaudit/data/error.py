"""DataError: tells in one sentence why data can't be used."""


class DataError(ValueError):
    """Tells which file can't be used, what is wrong with it, and what to do, in one sentence.

    Args:
        message: The sentence.
    """

    def __init__(self, message: str) -> None:
        # A DataLoader worker's error is raised again in the main process with the worker's whole traceback as message;
        # the sentence is its last line, behind the name of this class.
        last = message.strip().rsplit("\n", 1)[-1]
        super().__init__(last.removeprefix(f"{__name__}.{type(self).__name__}: "))
