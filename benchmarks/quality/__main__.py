"""`python -m benchmarks.quality [mind] [ml100k] [ibm] [globo] [--work DIR] [--results DIR] [--only WORD]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.quality.run import RESULTS, run
from benchmarks.quality.tasks import DATA_SETS


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="DATASET", help=f"of {', '.join(DATA_SETS)}; all by default")
    parser.add_argument("--work", type=Path, help="keep data and finished methods there, and go on from it")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the tables are written")
    parser.add_argument("--only", action="append", help="only methods whose name holds this word; may be repeated")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in DATA_SETS]
    if unknown:
        parser.error(f"no such data set: {', '.join(unknown)} (there are {', '.join(DATA_SETS)})")
    failed = sum(
        run(name, work=options.work, results=options.results, only=options.only) for name in options.names or DATA_SETS
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
