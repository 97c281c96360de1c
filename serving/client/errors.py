"""What a call to a model server can end in."""

from __future__ import annotations


class ClientError(Exception):
    """A call that gave no answer. `code` is gRPC's canonical name, such as INVALID_ARGUMENT.

    Its kinds are BadCall, NotServed, Unavailable, DeadlineExceeded and ServerFailed.

    Example:
        >>> from serving import Client, ClientError
        >>> with Client("http://127.0.0.1:9", timeout=0.1) as client:  # nobody is there
        ...     try:
        ...         client.versions("news")
        ...     except ClientError as error:
        ...         print(error.code)
        UNAVAILABLE
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BadCall(ClientError):
    """The call is wrong, and would be wrong again: an input's name, type or shape, a signature, a label."""


class NotServed(ClientError):
    """There is no such model or version."""


class Unavailable(ClientError):
    """The server cannot be reached or takes nothing at the moment. Calls are repeated on it until their deadline."""


class DeadlineExceeded(ClientError):
    """No answer within the call's time."""


class ServerFailed(ClientError):
    """The server failed."""


_CLASSES: dict[str, type[ClientError]] = {
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), BadCall),
    **dict.fromkeys(("UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"), BadCall),
    "NOT_FOUND": NotServed,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}
_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_of(code: str, message: str) -> ClientError:
    """The error of a canonical code."""
    return _CLASSES.get(code, ServerFailed)(code, message)


def http_error(status: int, message: str) -> ClientError:
    """The error of an HTTP status."""
    return error_of(_HTTP.get(status, "INTERNAL"), message)
