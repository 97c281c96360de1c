"""Run the benchmarks named on the command line, or all: `python -m benchmarks [startup] [import] [preparation] ...`.

`fuzz --minutes 5` goes on for that long.

`mind`, `ml100k`, `ibm` and `globo` compare our recipes with peers (`python -m benchmarks.quality` has options). They,
`finetuning`, `encoders`, `images`, `languages`, `throughput`, and a half of `ablation`, `adaptation`, `preparation`,
`quantise` and `unlabelled` need public files below $BELFRY_DATA and say so where they are not there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from benchmarks import (
    ablation,
    adaptation,
    drift,
    durability,
    edge,
    encoders,
    experiments,
    fuzz,
    fuzz_gateway,
    gateway,
    images,
    importing,
    index,
    languages,
    model_server,
    quantise,
    refresh,
    resume,
    retrain_kills,
    rollback,
    simulate,
    startup,
    swaps,
    throughput,
    tuning,
    unlabelled,
)
from benchmarks.finetuning import run as finetuning
from benchmarks.finetuning import scaling
from benchmarks.preparation import run as preparation
from benchmarks.quality.run import run as run_quality
from benchmarks.quality.tasks import DATA_SETS

BENCHMARKS: dict[str, Callable[[], int | None]] = {
    "startup": startup.run,
    "import": importing.run,
    "preparation": preparation.run,
    "finetuning": finetuning.run,
    "scaling": scaling.run,
    "encoders": encoders.run,
    "images": images.run,
    "languages": languages.run,
    "throughput": throughput.run,
    "ablation": ablation.run,
    "adaptation": adaptation.run,
    "unlabelled": unlabelled.run,
    "index": index.run,
    "refresh": refresh.run,
    "resume": resume.run,
    "retrain-kills": retrain_kills.run,
    "rollback": rollback.run,
    "durability": durability.run,
    "fuzz-gateway": fuzz_gateway.run,
    "tuning": tuning.run,
    "experiments": experiments.run,
    "simulate": simulate.run,
    "drift": drift.run,
    "edge": edge.run,
    "quantise": quantise.run,
    "model-server": model_server.run,
    "swaps": swaps.run,
    "fuzz": fuzz.run,
    "gateway": gateway.run,
    **{name: partial(run_quality, name) for name in DATA_SETS},
}


def main(names: list[str]) -> int:
    if names[:2] == ["fuzz", "--minutes"] and len(names) == 3:
        return fuzz.run(float(names[2]))
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(BENCHMARKS)})", file=sys.stderr)
        return 2
    failed = 0
    for name in names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        failed += BENCHMARKS[name]() or 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
