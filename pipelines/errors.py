"""The one exception that means "the input is wrong", not "the program is"."""


class BadInput(Exception):
    """Unusable input. The message is one sentence that says what is wrong and what to do.

    The command line prints it and exits with code 2; nothing has been written or changed.
    """


class Busy(Exception):
    """The same work is under way elsewhere; the message is one clear sentence. The command line exits with code 3."""


class Stopped(Exception):
    """Work that ended early for no fault of the input, and can go on; the message is one clear sentence."""
