"""From logged answers and a candidate's own to estimates with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import BadInput
from pipelines.off_policy.logged import Slate, explored_slates
from pipelines.progress import track
from pipelines.served import as_batch, padded
from serving.events import Store
from serving.events.items import ItemFacts, changed_items
from serving.events.users import UserState, read_states_before
from serving.experiments.off_policy import OffPolicy, Value, off_policy
from serving.gateway.diversify import diversify

_BATCH = 32
_DIVERSIFIED = 5  # times K, as the gateway has it
_PRIOR = 20.0  # impressions' worth of belief that an item is like all
_SECOND = 1_000_000

Recommend = Callable[[list[dict[str, Any]]], list[list[str]]]


@dataclass(frozen=True)
class Estimate:
    """What a candidate would have earned a shown item, in wanted items.

    Args:
        slates: Answers that were looked at; `records` places of these.
        logged: What was earned by what was shown.
        agreed: Share of places at which the candidate would have shown the same.
        candidate: The estimates.
        lead: Doubly robust, of the candidate over what was shown, by the same records.

    Example:
        >>> from pipelines.off_policy.estimate import weigh
        >>> from pipelines.off_policy.logged import Slate
        >>> slates = [
        ...     Slate(f"r{row}", f"u{row}", row, "en", "", ["a"], [0.5], [row % 3 == 0]) for row in range(200)
        ... ]
        >>> found = weigh(slates, [["a"]] * 200)
        >>> found.slates, found.agreed
        (200, 1.0)
    """

    slates: int
    records: int
    logged: Value
    agreed: float
    candidate: OffPolicy
    lead: Value

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For a reader."""
        return estimate_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def estimate_off_policy(
    store: Store,
    version: Path | str,
    start: int,
    end: int,
    *,
    most: int = 5_000,
    category_share: float = 0.5,
    history: int = 50,
    seen: int = 200,
    positive_rating: float | None = None,
) -> Estimate:
    """Ask an exported version what it would have answered, and weigh what users did with what was shown instead.

    At each place the candidate would show one item; the answers in which chance put that item there say what it would
    have earned, each weighed by how seldom that was. That holds where what a user does at a place does not depend on
    what stands elsewhere, and where the candidate's items could have been shown: a warning says where too many could
    not. Items that appeared after the version was exported are not its own to recommend, although a gateway would show
    them beside its own.

    Args:
        store: An open store.
        version: MODELS/NAME/VERSION.
        start, end: Microseconds since 1970.
        most: Answers to look at.
        category_share, history, seen, positive_rating: As the gateway has them.

    Raises:
        BadInput: There is no version, or no answer was left to chance.
        StoreAway: The database cannot be reached.

    Example:
        >>> from pipelines import estimate_off_policy
        >>> from serving import Store, wall_clock
        >>> with Store("store") as store:
        ...     estimate_off_policy(store, "models/news/1", 0, wall_clock())
        Traceback (most recent call last):
        pipelines.errors.BadInput: no answer of that time was left to chance: ...
    """
    version = Path(version)
    if not (version / "saved_model.pb").is_file():
        raise BadInput(f"{version} is not an exported version, MODELS/NAME/VERSION.")
    slates = explored_slates(store, start, end, most)
    if not slates:
        raise BadInput(
            "no answer of that time was left to chance: serve with BELFRY_EXPLORE above 0, or `explore` in a variant."
        )
    asked = [(slate.user_id, slate.at) for slate in slates]
    then = read_states_before(store, asked, history=history, seen=seen, positive_rating=positive_rating)
    items = {item.item_id: item for item in changed_items(store, 0)}
    chosen = list(_answers(_asked(version), slates, list(then), items, category_share))
    return weigh(slates, chosen)


def weigh(slates: Sequence[Slate], chosen: Sequence[Sequence[str]]) -> Estimate:
    """Estimates for a policy that would have answered with `chosen`, ids from the top, one list a slate."""
    rows = [
        (number, place, shown, propensity, wanted, own[place] if place < len(own) else "")
        for number, (slate, own) in enumerate(zip(slates, chosen, strict=True))
        for place, (shown, propensity, wanted) in enumerate(
            zip(slate.items, slate.propensity, slate.wanted, strict=True)
        )
    ]
    user = np.unique([slate.user_id for slate in slates], return_inverse=True)[1]
    cluster = user[[row[0] for row in rows]]
    place = np.array([row[1] for row in rows])
    propensity = np.array([row[3] for row in rows])
    reward = np.array([row[4] for row in rows], np.float64)
    same = np.array([row[2] == row[5] for row in rows])
    shown, own = [row[2] for row in rows], [row[5] for row in rows]
    predicted, expected = _predictions(place, shown, own, reward, cluster)
    target = same.astype(np.float64)
    found = off_policy(reward, propensity, target, predicted=predicted, expected=expected, cluster=cluster)
    always = np.ones(len(rows))
    # A difference of two policies is a policy whose value may be negative: the same corrections, place by place.
    lead = off_policy(
        expected + target / propensity * (reward - predicted) - reward, always, always, cluster=cluster
    ).ips
    logged = off_policy(reward, always, always, cluster=cluster).ips
    return Estimate(len(slates), len(rows), logged, float(same.mean()), found, lead)


def _predictions(
    place: np.ndarray, shown: Sequence[str], own: Sequence[str], reward: np.ndarray, cluster: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) rewards expected of what was shown and of what the candidate would have shown, from other users' records.

    A position's rate, times an item's clicks over expected clicks (Zhang and Jones 2007), shrunk towards 1.
    """
    predicted, expected = np.zeros(len(reward)), np.zeros(len(reward))
    names, shown_at = np.unique(np.array(shown, object).astype(str), return_inverse=True)
    number = {name: row for row, name in enumerate(names.tolist())}
    own_at = np.array([number.get(each, -1) for each in own])
    fills = np.array([each != "" for each in own])
    fold = cluster % 2
    for held in (0, 1):
        rest, here = fold != held, fold == held
        if not rest.any():
            continue
        overall = reward[rest].mean()
        count = np.bincount(place[rest], minlength=place.max() + 1)
        rate = (np.bincount(place[rest], reward[rest], place.max() + 1) + _PRIOR * overall) / (count + _PRIOR)
        clicks = np.bincount(shown_at[rest], reward[rest], len(names))
        likely = np.bincount(shown_at[rest], rate[place[rest]], len(names))
        prior = _PRIOR * max(overall, 1e-9)
        factor = np.append((clicks + prior) / (likely + prior), 1.0)  # the last is for what was never shown
        predicted[here] = np.minimum(rate[place[here]] * factor[shown_at[here]], 1.0)
        # A place that is left empty earns nothing.
        expected[here] = np.minimum(rate[place[here]] * factor[own_at[here]], 1.0) * fills[here]
    return predicted, expected


def _answers(
    recommend: Recommend,
    slates: Sequence[Slate],
    states: Sequence[UserState],
    items: dict[str, ItemFacts],
    category_share: float,
) -> Iterator[list[str]]:
    starts = range(0, len(slates), _BATCH)
    for start in track(starts, "asking the candidate", len(starts)):
        some, then = slates[start : start + _BATCH], states[start : start + _BATCH]
        asked = [_instance(slate, state) for slate, state in zip(some, then, strict=True)]
        for slate, state, ids in zip(some, then, recommend(asked), strict=True):
            hidden = {*state.seen, *state.item_ids}
            passed = [each for each in ids if each and each not in hidden and _was_on_offer(items.get(each), slate.at)]
            passed = passed[: _DIVERSIFIED * len(slate.items)]
            categories = [items[each].category if each in items else "" for each in passed]
            yield diversify(passed, categories, len(slate.items), category_share)


def _was_on_offer(item: ItemFacts | None, at: int) -> bool:
    return item is None or (item.published_at <= at and not 0 < item.removed_at <= at)


def _instance(slate: Slate, state: UserState) -> dict[str, Any]:
    at = slate.at // _SECOND
    told = set(state.item_ids)
    return {
        "history_ids": state.item_ids,
        "history_age_seconds": [max(0.0, at - each) for each in state.at_seconds],
        "history_dwell_seconds": state.dwell_seconds,
        "history_scroll_depth": state.scroll_depth,
        "language": slate.language,
        "device": slate.device or state.device,
        "time_seconds": at,
        "exclude_ids": [each for each in state.seen if each not in told],
    }


def _asked(version: Path) -> Recommend:
    from serving.model_server.loaded import LoadedModel

    model = LoadedModel(version)
    signature = model.signature("recommend")
    if signature is None:
        raise BadInput(f"{version} has no signature `recommend`: it is no model of `belfry export`.")

    def recommend(instances: list[dict[str, Any]]) -> list[list[str]]:
        # A list of nobody's is one column of padding.
        rows = padded([*instances, _ONE])[:-1]
        found = model.run(signature, as_batch(rows), ("ids",))["ids"]
        return [[each.decode() for each in row] for row in found.tolist()]

    return recommend


_ONE: dict[str, Any] = {
    "history_ids": [""],
    "exclude_ids": [""],
    "language": "",
    "device": "",
    "time_seconds": 0,
    **{f"history_{name}": [0.0] for name in ("age_seconds", "dwell_seconds", "scroll_depth")},
}


def estimate_lines(found: Estimate) -> list[str]:
    """For a reader."""

    def told(value: Value) -> str:
        return f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]"

    names = {"inverse propensity": found.candidate.ips, "self-normalised": found.candidate.snips}
    if found.candidate.doubly_robust is not None:
        names["doubly robust"] = found.candidate.doubly_robust
    return [
        f"{found.slates:,} answers left to chance in part, {found.records:,} places; wanted items by shown items",
        f"  {'what was shown':20} {told(found.logged)}",
        *(f"  {name:20} {told(value)}" for name, value in names.items()),
        # Of a candidate that the answers say little of, a lead would pass for a result.
        f"  {'lead':20} {'not told: see the warning' if found.candidate.warnings else told(found.lead)}",
        f"the candidate would have shown the same at {found.agreed:.0%} of the places; its records say as much as "
        f"{found.candidate.effective:,.0f}",
        *(f"warning: {each}" for each in found.candidate.warnings),
    ]
