"""Whether requests of a signature are quick enough for the thread that all others wait for."""

from __future__ import annotations

# Handing a request to a thread and back takes about as long. Others might wait for it, so it must be less than they
# would notice.
QUICK_SECONDS = 5e-4
LATE_SECONDS = 0.05  # others have noticed
_FORGETTING = 0.05  # how much of the average the last request makes up
_WARY = 1000  # requests


class Pace:
    """How long requests took lately, from their text to the answer's. Safe to use from any thread, to within a request.

    Nothing is known at first, which is not quick. After a late request the next thousand are not quick either, however
    long they take: a model that is slow for some inputs delays others rarely.
    """

    def __init__(self) -> None:
        self._seconds = float("inf")
        self._wary = 0

    @property
    def quick(self) -> bool:
        """Whether the next request is expected to be."""
        return self._seconds <= QUICK_SECONDS and self._wary == 0

    def took(self, seconds: float, *, well: bool) -> None:
        """A request has ended. One that was refused early, thus not `well`, says nothing of those that will not be."""
        if not well and seconds <= QUICK_SECONDS:
            return
        if self._seconds == float("inf"):
            self._seconds = seconds  # the first one also makes the session's callable: it is no sign of later ones
            return
        self._seconds += _FORGETTING * (seconds - self._seconds)
        self._wary = _WARY if seconds >= LATE_SECONDS else max(self._wary - 1, 0)
