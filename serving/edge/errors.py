"""What can be wrong on an edge server; each message is one sentence that says what and, where it helps, what to do."""

from __future__ import annotations


class EdgeError(Exception):
    """The base of the others.

    The message is one sentence. Its kinds are BadBundle, BadRequest and NotFound.

    Example:
        >>> from serving import BundleStore, EdgeError
        >>> try:
        ...     BundleStore("nowhere")
        ... except EdgeError as error:
        ...     print(error)
        nowhere is not a folder: give the one that holds the numbered bundles.
    """


class BadBundle(EdgeError):
    """A bundle that is not served: damaged, incomplete, of another format, or with answers that are no numbers."""


class BadRequest(EdgeError):
    """A request that cannot be answered as it is."""


class NotFound(EdgeError):
    """An item, or an older bundle, that is not there."""
