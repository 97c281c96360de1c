"""A LiteRT file as a function from named arrays to named arrays."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from serving.edge.errors import BadBundle

_SIGNATURE = "serving_default"


class LiteRtModel:
    """One model on one thread; calls from several threads take turns.

    The file is mapped, not copied. Memory for a run is taken at the first call.

    Raises:
        BadBundle: The file is no LiteRT model with the signature `serving_default`.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.name = path.name
        self._lock = threading.Lock()
        self._ready = False
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._run: Any = self._interpreter.get_signature_runner(_SIGNATURE)
            self.inputs = _described(self._run.get_input_details())
            self.outputs = _described(self._run.get_output_details())
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadBundle(f"{path} is not a LiteRT model that can be run here ({reason}).") from None

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run on arrays of the shapes and types in `inputs`; what the model does not take is left out."""
        given = {name: inputs[name] for name in self.inputs}
        with self._lock:
            found = self._run(**given)
        return {name: np.array(value) for name, value in found.items()}


def _described(details: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {
        name: (tuple(int(size) for size in each["shape"]), np.dtype(each["dtype"])) for name, each in details.items()
    }
