"""The one exception that means "the input is wrong", not "the program is"."""


class BadInput(Exception):
    """Unusable input. The message is one sentence that says what is wrong and what to do.

    The command line prints it and exits with code 2; nothing has been written or changed.

    Example:
        >>> from pipelines import BadInput, Dataset
        >>> try:
        ...     Dataset.open("nowhere")
        ... except BadInput as error:
        ...     print(error)
        nowhere is not a Belfry dataset (it has no dataset.json): make one with `belfry data import`.
    """


class Busy(Exception):
    """The same work is under way elsewhere; the message is one clear sentence. The command line exits with code 3.

    Example:
        >>> from pipelines import Busy, retrain
        >>> try:
        ...     print(retrain("models", "news", "work", store="store"))  # doctest: +SKIP
        ... except Busy as error:
        ...     print(error)
    """


class Stopped(Exception):
    """Work that ended early for no fault of the input, and can go on; the message is one clear sentence.

    Example:
        >>> from pipelines import Stopped, quantise
        >>> try:
        ...     quantise("models/news/1", "quantised", keep=1.0)  # doctest: +SKIP
        ... except Stopped as error:
        ...     print(error)
    """
