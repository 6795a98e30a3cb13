"""The error that bad data raises."""


class DataError(ValueError):
    """Something on disk, or given by the user, is not what it must be.

    The message is one line that names the file (or the argument), says what is wrong and what was
    expected. The command line prints it and exits with status 1.
    """
