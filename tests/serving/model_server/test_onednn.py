"""How a server loads TensorFlow, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_IMPORT = """
import gc, json, os, sys
from serving.model_server.process import import_tensorflow
import_tensorflow(onednn=json.loads(sys.argv[1]))
from tensorflow.python.util._pywrap_util_port import IsMklEnabled
found = {"onednn": IsMklEnabled(), "left": os.environ.get("TF_ENABLE_ONEDNN_OPTS"), "frozen": gc.get_freeze_count() > 0}
print(json.dumps(found | {"keras": [name for name in ("keras", "tf_keras") if name in sys.modules]}))
"""


@pytest.mark.parametrize(
    ("asked", "environment", "used"), [(True, None, True), (False, None, False), (False, "1", True), (True, "0", False)]
)
def test_one_dnn_is_used_as_asked_unless_the_environment_says(asked: bool, environment: str | None, used: bool) -> None:
    plain = {name: value for name, value in os.environ.items() if name != _ONEDNN}
    chosen = {} if environment is None else {_ONEDNN: environment}
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, json.dumps(asked)],
        env=plain | chosen,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    # A server that this process starts must not inherit what was meant for this one.
    assert json.loads(done.stdout) == {"onednn": used, "left": environment, "frozen": True, "keras": []}
