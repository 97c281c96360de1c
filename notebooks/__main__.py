"""`python -m notebooks [NAME ...]`: execute notebooks, and keep their outputs; all of them, or those named."""

from __future__ import annotations

import os
import sys
import time

import nbformat

from notebooks.execution import executed, notebooks


def main(names: list[str]) -> int:
    chosen = [path for path in notebooks() if not names or path.stem in names or path.name in names]
    if len(chosen) < len(names):
        print(f"There is no such notebook: choose {', '.join(path.stem for path in notebooks())}.", file=sys.stderr)
        return 2
    for path in chosen:
        start = time.monotonic()
        found = executed(path)
        draft = path.with_suffix(".ipynb.draft")
        nbformat.write(found, draft)
        os.replace(draft, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
