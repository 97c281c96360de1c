"""A gateway as a process: settings in, signals handled, a sentence out where it cannot start."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from serving.gateway.server import log_to_standard_error
from serving.gateway.settings import Settings
from serving.gateway.stack import ServingStack
from serving.gateway.version_book import VersionBook

_log = logging.getLogger(__name__)


def run_gateway(
    store: Path | str,
    chosen: Mapping[str, Any],
    *,
    models: Path | None = None,
    model: str | None = None,
    rest_port: int | None = 8501,
    grpc_port: int | None = 8500,
    version_book: Callable[[str], VersionBook] | None = None,
    started: Callable[[dict[str, Any]], None],
) -> None:
    """Serve until SIGTERM or SIGINT. Call it in the main thread.

    Args:
        store: A folder or URL.
        chosen: Further settings that are not from the environment.
        models: Where the model of a server in this process is; None for one elsewhere.
        model: Its name.
        version_book: Given the model's name, who knows which versions of it there are; None where nobody does.
        started: Is told the addresses.

    Raises:
        ValueError: It cannot start; one sentence says why.
    """
    stack = ServingStack(
        store, models, model=model, rest_port=rest_port, grpc_port=grpc_port, version_book=version_book, **chosen
    )
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    log_to_standard_error()
    # What requests leave behind is freed by its reference counts. To look for cycles among all that a catalogue and a
    # model hold takes tenths of a second, in which nobody is answered: seldom is enough.
    gc.set_threshold(50_000, 20, 1_000)
    try:
        if models is not None:
            from serving.model_server.process import import_tensorflow

            import_tensorflow(onednn=True)  # as `ServingStack` would
        with contextlib.ExitStack() as opened:
            opened.callback(stack.stop)
            stack.start(cancelled=stop.is_set)
            if stop.is_set():
                return
            found: dict[str, Any] = {"url": stack.url, "model": stack.settings.model, "store": _shown(stack.settings)}
            if stack.model_server is not None:
                found |= {"rest": stack.rest_url, "grpc": stack.grpc_target}
            started(found)
            # With a timeout, because on some systems a signal does not interrupt an endless wait.
            while not stop.wait(1.0):
                pass
            _log.info("Stopping: no new requests, those under way finish, and what waits is written.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(settings: Settings) -> str:
    """The store, without a password."""
    text = settings.store_url.get_secret_value()
    if "://" not in text:
        return text
    from sqlalchemy import make_url

    return make_url(text).render_as_string(hide_password=True)
