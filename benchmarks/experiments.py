"""Whether the statistics of experiments hold what they promise: false alarms, power, and off-policy intervals."""

from __future__ import annotations

import numpy as np

from pipelines.off_policy.estimate import weigh
from pipelines.off_policy.logged import Slate
from serving.experiments.off_policy import off_policy
from serving.experiments.sample_ratio import sample_ratio_evidence
from serving.experiments.sequential import difference, users_needed
from serving.experiments.values import ratio_values
from serving.gateway.explore import draw, explored

RATE, LIFT, LOOK, ALPHA = 0.05, 0.1, 500, 0.05
AA, AB, OFF_POLICY = 1_000, 300, 200
READERS, NIGHTS = 300, 21


def run() -> int:
    sequential, fixed = users_needed(RATE, RATE * (1 - RATE), LIFT, alpha=ALPHA)
    rng = np.random.default_rng(0)
    alarms = sum(_first(rng, RATE, RATE, sequential) is not None for _ in range(AA))
    print(f"A/A: {alarms} false alarms in {AA:,} experiments of {sequential:,} users, looked at after every {LOOK}")
    found = [users for _ in range(AB) if (users := _first(rng, RATE, RATE * (1 + LIFT), sequential)) is not None]
    print(
        f"A/B with {LIFT:.0%} more at {RATE:.0%}: {len(found) / AB:.0%} of {AB} found within {sequential:,} users, "
        f"median {np.median(found):,.0f}; a test of one look needs {fixed:,}"
    )
    again = sum(_returning(rng) for _ in range(AA))
    print(f"A/A of {2 * READERS} readers who come back for {NIGHTS} days, looked at every night: {again} in {AA:,}")
    imbalance = sum(_imbalance(rng, 0.5) for _ in range(AA))
    noticed = sum(_imbalance(rng, 0.48) for _ in range(AB))
    print(f"sample ratio: {imbalance} false alarms in {AA:,}; 48 % for 50 % noticed in {noticed} of {AB}, 50,000 users")
    inside = dict.fromkeys(("ips", "snips", "doubly_robust"), 0)
    for _ in range(OFF_POLICY):
        records, truth = _records(rng, 5_000)
        estimate = off_policy(**records)
        for name in inside:
            value = getattr(estimate, name)
            inside[name] += value.low <= truth <= value.high
    told = ", ".join(f"{name} {count / OFF_POLICY:.1%}" for name, count in inside.items())
    print(f"off-policy: the truth is inside the 95 % interval of {OFF_POLICY} runs: {told}")
    placed = [_placed(seed) for seed in range(OFF_POLICY)]
    for name in inside:
        inside[name] = min(inside[name], sum(each[name] for each in placed))
    told = ", ".join(f"{name} {sum(each[name] for each in placed) / OFF_POLICY:.1%}" for name in inside)
    print(f"off-policy, slates of a gateway that leaves a place to chance: {told}")
    good = max(alarms, again, imbalance) <= ALPHA * AA and len(found) >= 0.8 * AB
    return int(not good or min(inside.values()) < 0.9 * OFF_POLICY)


def _first(rng: np.random.Generator, control: float, treatment: float, users: int) -> int | None:
    """Users at the first look that finds a difference."""
    arms = [(rng.random(users // 2) < rate).astype(float) for rate in (control, treatment)]
    for seen in range(LOOK, users + 1, LOOK):
        if difference(arms[0][: seen // 2], arms[1][: seen // 2], planned=users, alpha=ALPHA).decided:
            return seen
    return None


def _returning(rng: np.random.Generator) -> bool:
    """Whether some look at two equal arms finds a difference, of readers with habits of their own who come back."""
    clicks, shown = np.zeros((2, READERS)), np.zeros((2, READERS))
    habit = rng.beta(2, 38, (2, READERS))
    for _ in range(NIGHTS):
        seen = 10 * rng.poisson(0.7, (2, READERS))
        shown += seen
        clicks += rng.binomial(seen, habit)
        if difference(*ratio_values(list(clicks), list(shown)), planned=5 * READERS, alpha=ALPHA).decided:
            return True
    return False


def _placed(seed: int, places: int = 6, items: int = 30, count: int = 1_000) -> dict[str, bool]:
    """Of each estimate, whether the truth is inside its interval: a policy whose answers leave one place to chance, and
    one that would have ordered the same items the other way round."""
    rng = np.random.default_rng(seed)
    worth = rng.beta(2, 20, items)
    examined = 1.0 / np.arange(1, places + 1) ** 0.5
    slates, chosen, truth = [], [], 0.0
    for number in range(count):
        pool = rng.permutation(items)[: 2 * places]
        name, own = f"{seed}/{number}", pool[:places][::-1]
        answer = explored(pool[:places].tolist(), pool.tolist(), 1.0, draw(name, 1.0))
        shown = [item for item, _ in answer]
        wanted = rng.random(places) < worth[shown] * examined
        propensity = [chance for _, chance in answer]
        slates.append(
            Slate(name, f"u{number // 4}", number, "", "", list(map(str, shown)), propensity, wanted.tolist())
        )
        chosen.append([str(item) for item in own])
        truth += float((worth[own] * examined).mean()) / count
    found = weigh(slates, chosen).candidate
    intervals = {name: getattr(found, name) for name in ("ips", "snips", "doubly_robust")}
    return {name: bool(each.low <= truth <= each.high) for name, each in intervals.items()}


def _imbalance(rng: np.random.Generator, share: float) -> bool:
    drawn = np.cumsum(rng.random(50_000) < share)
    return any(
        sample_ratio_evidence({"a": int(drawn[n - 1]), "b": n - int(drawn[n - 1])}, {"a": 0.5, "b": 0.5}) > 1 / ALPHA
        for n in range(LOOK, len(drawn) + 1, LOOK)
    )


def _records(rng: np.random.Generator, count: int) -> tuple[dict[str, np.ndarray], float]:
    """Slots of which a tenth is explored uniformly over 20 items, and a target that prefers others, by context."""
    items, contexts = 20, 30
    rate = rng.beta(2, 30, (contexts, items))
    context = rng.integers(0, contexts, count)
    favourite = rng.integers(0, items, contexts)
    logged = np.full((contexts, items), 0.1 / items)
    logged[np.arange(contexts), favourite] += 0.9
    target = np.exp(40 * rate)
    target /= target.sum(axis=1, keepdims=True)
    target = 0.5 * target + 0.5 * logged
    drawn = (rng.random(count)[:, None] > np.cumsum(logged[context], axis=1)).sum(axis=1).clip(0, items - 1)
    predicted = rate + rng.normal(0, 0.03, rate.shape)
    return {
        "reward": (rng.random(count) < rate[context, drawn]).astype(float),
        "logged": logged[context, drawn],
        "target": target[context, drawn],
        "predicted": predicted[context, drawn],
        "expected": (target * predicted).sum(axis=1)[context],
    }, float((target * rate).sum(axis=1).mean())
