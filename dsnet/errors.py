"""What can go wrong that is no bug: wrong input, and a training that does not converge."""


class InputError(ValueError):
    """A wrong file, field or value given by the user.

    The message is one line that names what was wrong, what was expected and what was found.
    The command line prints that line and exits with status 2.
    """


class DivergenceError(ArithmeticError):
    """A loss or a weight is not finite any more.

    The message is one line that names what and when. Every worker of a training raises it alike.
    The command line prints that line and exits with status 1.
    """
