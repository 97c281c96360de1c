"""What a request can be refused with."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not answered, with the HTTP status and the sentence that the client is told.

    Args:
        retry_after: Seconds.
        unread: Whether a part of the body was not read, so that the connection cannot be used again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None, *, unread: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.unread = unread


class ModelAway(Exception):
    """The model gives no answer at the moment."""
