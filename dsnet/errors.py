"""The one exception that means: the input was wrong, and here is what to do about it."""


class InputError(ValueError):
    """A wrong file, field or value given by the user.

    The message is one line that names what was wrong, what was expected and what was found.
    The command line prints that line and exits with status 2.
    """
