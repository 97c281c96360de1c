"""From a Parquet log to training histories and slates: `load_behaviour` beside the plain pandas way, in one run.

Each is a process of its own, start of Python included. Both must find the same histories and slates for a sample of
users, and as many of them for all.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.quality.sources import NotHere, source

_EVENTS, _ITEMS, _USERS = 10_000_000, 100_000, 500_000


def run() -> int:
    from benchmarks.commands import BELFRY, measure
    from benchmarks.preparation.synthetic import write_dataset

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "synthetic", _EVENTS, _ITEMS, _USERS)
        failed = compare(folder / "synthetic")
        try:
            clicks = source("globo") / "clicks.parquet"
        except NotHere as missing:
            print(missing)
            return failed
        measure(BELFRY, "data", "import", "table", clicks, folder / "globo")
        return failed + compare(folder / "globo")


def compare(folder: Path) -> int:
    """Print both ways on one dataset folder; 1 where they disagree."""
    from benchmarks.commands import measure
    from benchmarks.preparation.parts import load, sample_users
    from pipelines.data.dataset import Dataset

    info = Dataset.open(folder).info
    users = folder.with_suffix(".users")
    users.write_text("\n".join(sample_users(folder / "events.parquet")), encoding="utf-8")
    print(f"{info.name}: {info.events:,} events, {info.items:,} items, {info.users:,} users")
    print(f"  {'':8}{'seconds':>9}{'CPU':>9}{'events/s':>12}{'peak MiB':>10}", flush=True)
    seconds, answers = [], []
    for way in ("plain", "ours"):
        out = folder.with_suffix(f".{way}")
        found = measure(sys.executable, "-m", f"benchmarks.preparation.{way}", folder, users, out)
        rate = info.events / found.seconds
        numbers = f"{found.seconds:9.1f}{found.cpu_seconds:9.1f}{rate:12,.0f}{found.peak_mib:10,.0f}"
        print(f"  {'pandas' if way == 'plain' else 'belfry':8}{numbers}", flush=True)
        seconds.append(found.seconds)
        answers.append(load(out))
    plain, ours = answers
    print(
        f"  {seconds[0] / seconds[1]:.1f} times the events per second: {ours['positives']:,} histories of "
        f"{ours['in_histories']:,} events, {ours['slates']:,} slates"
    )
    different = [name for name in plain if plain[name] != ours[name]]
    sample = f"{len(plain['histories'])} users with {len(plain['shown'])} slates"
    print(f"  different: {', '.join(different)}" if different else f"  the same counts, and the same for {sample}")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(run())
