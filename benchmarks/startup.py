"""How long the command line takes to say what it can do."""

from __future__ import annotations

import statistics

from benchmarks.commands import BELFRY, measure


def run() -> None:
    seconds = [measure(BELFRY, "--help").seconds for _ in range(7)]
    print(f"belfry --help: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s of {len(seconds)}")
