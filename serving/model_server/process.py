"""The server as a process: flags in, signals handled, an exit code out."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from types import FrameType

from serving.model_server.errors import ServingError
from serving.model_server.flags import read_flags
from serving.model_server.memory import few_arenas
from serving.model_server.onednn import load_with_onednn
from serving.model_server.options import OptionError

_log = logging.getLogger(__name__)


def serve(argv: list[str]) -> int:
    """See `serving.model_server.run`. Call it in the main thread: it handles SIGTERM and SIGINT while it runs."""
    try:
        options = read_flags(argv)
    except OptionError as error:
        print(error, file=sys.stderr)
        return 2
    if isinstance(options, str):
        print(options)
        return 0

    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # Without oneDNN an unloaded version's memory goes back to the system, and recommenders run as fast. Set
        # TF_ENABLE_ONEDNN_OPTS=1 for models that gain from it, such as convolutions.
        import_tensorflow(onednn=False)
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)

        from serving.model_server.server import ModelServer

        server = ModelServer(options)
        try:
            server.start(cancelled=stop.is_set)
        except (ServingError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        try:
            if not stop.is_set():
                for line in _addresses(server.rest_url, server.grpc_target, server.model_names):
                    print(line, flush=True)
            # With a timeout, because on some systems a signal does not interrupt an endless wait.
            while not stop.wait(1.0):
                pass
            _log.info("Stopping: no new requests, those under way finish.")
        finally:
            server.stop()
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def import_tensorflow(*, onednn: bool) -> None:
    """Load it for a process that only serves: see `load_with_onednn`. Call it before there are many threads."""
    few_arenas()
    # Read by TensorFlow's C++ side when it loads; what goes wrong with a model is logged by this server.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow imports an installed Keras by itself: a second and 140 MB that serving has no use for.
    hidden = [name for name in ("keras", "tf_keras") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        load_with_onednn(onednn)
    finally:
        for name in hidden:
            del sys.modules[name]
    # What the import made stays: to look through it for cycles takes a tenth of a second each time that a version is
    # unloaded, in which nobody is answered.
    gc.collect()
    gc.freeze()


def _addresses(rest_url: str | None, grpc_target: str | None, names: list[str]) -> list[str]:
    models = f"model {names[0]}" if len(names) == 1 else f"models {', '.join(names) or '(none)'}"
    lines = []
    if rest_url:
        lines.append(
            f"REST ready at {rest_url}/v1/models/{names[0]}" if len(names) == 1 else f"REST ready at {rest_url}"
        )
    if grpc_target:
        lines.append(f"gRPC ready at {grpc_target}, {models}")
    return lines
