"""Off-policy estimates against a truth that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import BadInput
from pipelines.off_policy import estimate_lines, estimate_off_policy
from pipelines.off_policy.estimate import weigh
from pipelines.off_policy.logged import Slate
from serving.events import Store
from serving.gateway.explore import draw, explored

PLACES, POOL = 4, 10
EXAMINED = 1.0 / np.arange(1, PLACES + 1) ** 0.5


def logged(
    seed: int, share: float, count: int = 1_500, as_it_was: bool = False
) -> tuple[list[Slate], list[list[str]], float]:
    """Answers of a policy that explores, what another one would have answered (or itself, without exploring), and what
    that is worth in truth."""
    rng = np.random.default_rng(seed)
    worth = rng.beta(2, 20, POOL)
    slates, chosen, values = [], [], []
    for number in range(count):
        pool = rng.permutation(POOL)
        ordered = pool[:PLACES]
        own = ordered if as_it_was else pool[::-1][:PLACES]
        answer = explored(ordered.tolist(), pool.tolist(), share, draw(f"{seed}/{number}", share))
        items = [item for item, _ in answer]
        wanted = rng.random(PLACES) < worth[items] * EXAMINED
        user = f"u{number // 5}"
        slates.append(
            Slate(
                f"{seed}/{number}",
                user,
                number,
                "",
                "",
                [str(item) for item in items],
                [propensity for _, propensity in answer],
                wanted.tolist(),
            )
        )
        chosen.append([str(item) for item in own])
        values.append((worth[own] * EXAMINED).mean())
    return slates, chosen, float(np.mean(values))


def test_the_truth_is_inside_the_intervals() -> None:
    runs = 40
    inside = dict.fromkeys(("ips", "snips", "doubly_robust"), 0)
    for seed in range(runs):
        slates, chosen, truth = logged(seed, share=1.0)
        found = weigh(slates, chosen).candidate
        for name in inside:
            value = getattr(found, name)
            inside[name] += value.low <= truth <= value.high
    assert min(inside.values()) >= 0.85 * runs, inside


def test_a_policy_as_it_was_earns_what_it_earned() -> None:
    slates, chosen, truth = logged(0, share=0.3, as_it_was=True)
    found = weigh(slates, chosen)
    assert found.agreed > 0.9
    assert found.candidate.snips.low < truth < found.candidate.snips.high
    assert found.lead.low < 0 < found.lead.high
    assert found.candidate.warnings == ()


def test_a_place_that_is_left_empty_earns_nothing() -> None:
    slates, chosen, _ = logged(0, share=1.0)
    nothing = weigh(slates, [[] for _ in slates])
    assert nothing.candidate.doubly_robust is not None
    assert nothing.candidate.doubly_robust.value == 0.0
    assert nothing.lead.value == pytest.approx(-nothing.logged.value)
    whole, half = (weigh(slates, each).candidate.doubly_robust for each in (chosen, [each[:2] for each in chosen]))
    assert whole is not None
    assert half is not None
    assert half.value < whole.value - 0.1 * whole.value


def test_items_that_could_not_be_shown_are_warned_of() -> None:
    slates, _, _ = logged(0, share=0.3)
    found = weigh(slates, [["never", "shown"] for _ in slates])
    assert found.agreed == 0.0
    assert found.candidate.warnings
    lines = estimate_lines(found)
    assert any(line.startswith("warning") for line in lines)
    assert "not told" in next(line for line in lines if line.startswith("  lead"))


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with pytest.raises(BadInput, match="not an exported version"):
            estimate_off_policy(store, tmp_path, 0, 1)
        (tmp_path / "saved_model.pb").touch()
        with pytest.raises(BadInput, match="BELFRY_EXPLORE"):
            estimate_off_policy(store, tmp_path, 0, 1)
