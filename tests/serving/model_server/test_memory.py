"""What is kept of memory that was given back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_COUNT = """
import ctypes, sys, threading
from serving.model_server.memory import few_arenas
if sys.argv[1] == "few":
    few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(12)
def allocate():
    barrier.wait()
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def _heaps(way: str, path: Path) -> int:
    subprocess.run([sys.executable, "-c", _COUNT, way, str(path)], check=True, timeout=60)
    return path.read_text().count("<heap ")


def test_threads_share_a_few_heaps(tmp_path: Path) -> None:
    assert _heaps("usual", tmp_path / "usual") > 3, "or there is nothing to bound"
    assert _heaps("few", tmp_path / "few") <= 2
