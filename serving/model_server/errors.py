"""The one error a request or a load can end in, with TensorFlow's canonical code and its HTTP status."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Canonical codes; the numbers are gRPC's and `tensorflow.error.Code`'s."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_HTTP = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class ServingError(Exception):
    """A request or a load that failed, with the code and the sentence the client is told.

    Args:
        code: Of gRPC, such as `Code.NOT_FOUND`.
        message: One sentence.

    Example:
        >>> from serving import ModelServer, Options, ServingError
        >>> try:
        ...     ModelServer(Options(model_config_file="no.config", rest_port=None)).start()
        ... except ServingError as error:
        ...     print("no.config" in str(error))
        True
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """The request itself is wrong."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def unsupported(feature: str) -> ServingError:
    """TensorFlow Serving has it, this server does not yet."""
    return ServingError(Code.UNIMPLEMENTED, f"{feature} is not supported by this server yet.")


def abridge(text: str, limit: int = 200) -> str:
    """Cut what a message quotes, so that a large request does not come back as a large error."""
    return text if len(text) <= limit else text[:limit] + "..."
