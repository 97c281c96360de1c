"""A gateway as a process: settings in, signals handled, a sentence out where it cannot start."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import ValidationError

from serving.events import StoreError
from serving.gateway.errors import Refused
from serving.gateway.server import GatewayServer, log_to_standard_error, model_in
from serving.gateway.settings import Settings
from serving.gateway.version_book import VersionBook

# What `belfry registry` writes beside the models, and its label of what serves.
CONFIG, CHAMPION = "models.config", "champion"
_log = logging.getLogger(__name__)


def run_gateway(
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
        chosen: Settings that are not from the environment.
        models: Where the model of a server in this process is; None for one elsewhere.
        model: Its name.
        version_book: Given the model's name, who knows which versions of it there are; None where nobody does.
        started: Is told the addresses.

    Raises:
        ValueError: It cannot start; one sentence says why.
    """
    folder: Path | None = None
    if models is not None:
        model, folder = model_in(models, model)
        if (models / CONFIG).is_file():
            # A registry says what serves: its champion, not what was exported last.
            chosen = {"label": CHAMPION, **chosen}
    try:
        settings = Settings(**{"model": model, **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}.") from None
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    log_to_standard_error()
    # What requests leave behind is freed by its reference counts. To look for cycles among all that a catalogue and a
    # model hold takes tenths of a second, in which nobody is answered: seldom is enough.
    gc.set_threshold(50_000, 20, 1_000)
    try:
        with contextlib.ExitStack() as opened:
            server = None
            if folder is not None:
                server = _model_server(folder, str(model), settings.label, rest_port, grpc_port, stop)
                opened.callback(server.stop)
            if stop.is_set():
                return
            book = None if version_book is None else version_book(settings.model)
            gateway = GatewayServer(settings, server, versions=book)
            opened.enter_context(gateway)
            found = {"url": gateway.url, "model": settings.model, "store": _shown(settings)}
            if server is not None:
                found |= {"rest": server.rest_url, "grpc": server.grpc_target}
            started(found)
            # With a timeout, because on some systems a signal does not interrupt an endless wait.
            while not stop.wait(1.0):
                pass
            _log.info("Stopping: no new requests, those under way finish, and what waits is written.")
    except (StoreError, Refused, OSError) as error:
        raise ValueError(str(error)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _model_server(
    folder: Path, name: str, label: str, rest_port: int | None, grpc_port: int | None, stop: threading.Event
) -> Any:
    from serving.model_server import ModelServer, OptionError, Options, ServingError
    from serving.model_server.model_config import read_model_configs
    from serving.model_server.process import import_tensorflow

    # The model server's default keeps memory low after a swap. But without oneDNN the scores of 4 users for 50,000
    # items take 60 ms of the processor instead of 9.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import_tensorflow()
    config = folder.parent / CONFIG
    models: dict[str, Any] = {"model_name": name, "model_base_path": folder}
    if config.is_file():
        models = {"model_config_file": config, "model_config_poll_wait_seconds": 1}
        models["allow_version_labels_for_unavailable_models"] = True
        # Without it fallbacks would answer for ever: a canary alone is nobody's answer.
        if not any(each.name == name and (label or CHAMPION) in each.labels for each in read_model_configs(config)):
            raise ValueError(
                f"The registry in {folder.parent} has no {label or CHAMPION} of {name}: belfry registry promote."
            )
    try:
        server = ModelServer(Options(**models, rest_port=rest_port, grpc_port=grpc_port))
        server.start(cancelled=stop.is_set)
    except (OptionError, ServingError) as error:
        raise ValueError(str(error)) from None
    return server


def _shown(settings: Settings) -> str:
    """The store, without a password."""
    text = settings.store_url.get_secret_value()
    if "://" not in text:
        return text
    from sqlalchemy import make_url

    return make_url(text).render_as_string(hide_password=True)
