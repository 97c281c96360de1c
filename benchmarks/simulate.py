"""The closed loop over 30 simulated days: is it worth more than the first model, and how far does a bad one get?

A quarter of an hour. `BELFRY_SIMULATION` names a new folder in which its store, models and page stay.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any


def run() -> int:
    from pipelines.recipe import Recipe
    from pipelines.simulation.simulate import Plan, simulate
    from recipes import shipped

    with tempfile.TemporaryDirectory() as scratch:
        out = Path(os.environ.get("BELFRY_SIMULATION") or Path(scratch) / "simulation")
        result = simulate(out, Recipe.load(shipped("simulate")), Plan())
    plan, lead, spoilt = result["plan"], result["lead"], result["spoilt"]
    ctr, true = result["ctr"], result["true_ctr"]
    print(
        f"{plan['days']} days, {result['visits']:,} visits, {result['seconds']:.0f} s: {result['retrained']} "
        f"retrainings, {result['promoted']} promotions, {result['fallbacks']} fallbacks"
    )
    print(
        f"clicks by shown items: loop {ctr['loop']:.4f}, first model {ctr['frozen']:.4f}: "
        f"{lead['value']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}], {lead['relative']:+.1%}"
    )
    gain = true["loop"] / true["frozen"] - 1
    print(f"in truth: loop {true['loop']:.4f}, first model {true['frozen']:.4f}: {gain:+.1%}")
    share = (1 - plan["holdout"]) * plan["canary"]
    _tell_spoilt(spoilt, share)
    within = spoilt["largest_share_of_a_day"] <= share + 0.05 and spoilt["looks"] == 1
    return int(not (lead["low"] > 0 and within and spoilt["verdict"] in ("lost", "guardrail")))


def _tell_spoilt(spoilt: dict[str, Any], share: float) -> None:
    print(
        f"a version that learned nothing: on trial with {share:.0%} of the readers, at most "
        f"{spoilt['largest_share_of_a_day']:.1%} of a day's visits, {spoilt['verdict']} at look {spoilt['looks']}"
    )
