"""Run the benchmarks named on the command line, or all.

`python -m benchmarks [startup] [import] [mind] [ml100k] [finetuning]`. The last three need the official files below
$BELFRY_DATA (mind-mini/train, mind-mini/dev, ml100k) and say so where they are not there.
"""

from __future__ import annotations

import sys

from benchmarks import finetuning, importing, quality, startup

BENCHMARKS = {
    "startup": startup.run,
    "import": importing.run,
    "mind": quality.mind,
    "ml100k": quality.ml100k,
    "finetuning": finetuning.run,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(BENCHMARKS)})", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
