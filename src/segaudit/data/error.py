"""DataError: one clear sentence about data that can't be used."""


class DataError(ValueError):
    """Data that can't be used, in one sentence: which file, what is wrong, what to do.

    Args:
        message: The sentence.
    """

    def __init__(self, message: str) -> None:
        # A DataLoader worker's error is raised again in the main process with the worker's whole traceback as message;
        # the sentence is its last line, behind the name of this class.
        last = message.strip().rsplit("\n", 1)[-1]
        super().__init__(last.removeprefix(f"{__name__}.{type(self).__name__}: "))
