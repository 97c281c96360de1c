"""What a request can be refused with."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not answered, with the HTTP status and the sentence that the client is told."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class ModelAway(Exception):
    """The model gives no answer at the moment."""
