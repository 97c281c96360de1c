"""What a model would be told of its own test: between the parts of the recipe's split."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.data.audit.examples import Divided
from pipelines.data.audit.findings import Checks, percent, share
from pipelines.data.audit.twins import twin_users
from pipelines.data.splits import Part
from pipelines.recipe import Split

_SPLIT = ("split_empty", "split_shared", "split_order", "split_repeats")


def audit_leakage(divided: Divided | str, rule: Split, checks: Checks, *, has_times: bool) -> dict[str, Any]:
    """Check the split: nothing held out is trained on, and nothing trained on is later than what is held out.

    Args:
        divided: From `divide`, or why there is no such split.
        rule: The recipe's.
        checks: Gets the results.
        has_times: Whether the dataset's moments are times.
    """
    if isinstance(divided, str):
        checks.skip(divided, *_SPLIT, "twin_users")
        return {"by": rule.by, "why_not": divided}
    log, parts = divided.behaviour.interactions, divided.parts
    eligible, twins = twin_users(log.user, log.item)
    part = share(twins, eligible)
    text = f"{percent(part)} of the users with ten items or more ({twins:,} of {eligible:,}) have a twin: at least four"
    checks.add("twin_users", part, f"{text} fifths of both users' items are the same", "user_id")
    unit = parts.requests if divided.on_requests else parts.interactions
    counts = {each.name.lower(): int((unit == each).sum()) for each in Part}
    name = "requests" if divided.on_requests else "positives"
    found: dict[str, Any] = {"by": rule.by, "unit": name, "parts": counts}
    found |= {"users_with_ten_items": eligible, "users_with_a_twin": twins}
    if rule.by == "none":
        checks.skip("the recipe's split keeps nothing back", *_SPLIT)
        return found
    _parts(counts, rule, name, checks)
    held = np.isin(parts.interactions, (Part.VALIDATION, Part.TEST))
    trained = parts.interactions == Part.TRAIN
    _shared(divided, checks)
    _order(divided, trained, held, checks, has_times=has_times)
    # A user's item as one number.
    pair = log.user.astype(np.int64) * (int(log.item.max(initial=0)) + 1) + log.item
    # Validation is in the history that the test is predicted from.
    known = sum(
        int(np.isin(pair[parts.interactions == part], pair[parts.interactions < part]).sum())
        for part in (Part.VALIDATION, Part.TEST)
    )
    repeats = share(known, int(held.sum()))
    text = f"{percent(repeats)} of the held-out positives are of an item that their user has in an earlier part"
    checks.add("split_repeats", repeats, text)
    return found


def border(divided: Divided | str) -> int | None:
    """The first second of the test part, where the parts are divided by time; None where there is none."""
    if isinstance(divided, str):
        return None
    behaviour, parts = divided.behaviour, divided.parts
    at, part = (
        (behaviour.requests.at, parts.requests)
        if divided.on_requests
        else (behaviour.interactions.at, parts.interactions)
    )
    return int(at[part == Part.TEST].min()) if (part == Part.TEST).any() else None


def _parts(counts: dict[str, int], rule: Split, unit: str, checks: Checks) -> None:
    wanted = ["train"]
    wanted += ["validation"] if rule.validation or rule.by == "last" else []
    wanted += ["test"] if rule.test or rule.by == "last" else []
    empty = [name for name in wanted if not counts[name]]
    sizes = ", ".join(f"{name} {counts[name]:,}" for name in wanted)
    checks.add("split_empty", len(empty), f"{unit} of the parts: {sizes}")


def _shared(divided: Divided, checks: Checks) -> None:
    log, parts = divided.behaviour.interactions, divided.parts
    of_slate = log.request >= 0
    if not of_slate.any():
        checks.skip("no positive belongs to a slate", "split_shared")
        return
    own, slate = parts.interactions[of_slate], parts.requests[log.request[of_slate]]
    held = np.maximum(own, slate) != Part.TRAIN
    apart = share(int((own != slate).sum()), int(held.sum()))
    text = f"{percent(apart)} of the positives of held-out slates are in another part than their slate"
    checks.add("split_shared", apart, text, "request_id")


def _order(divided: Divided, trained: np.ndarray, held: np.ndarray, checks: Checks, *, has_times: bool) -> None:
    if not has_times:
        checks.skip("the dataset has no times: the order of its rows is the clock", "split_order")
        return
    log = divided.behaviour.interactions
    latest = np.full(len(log.user_offsets) - 1, np.iinfo(np.int64).min)
    np.maximum.at(latest, log.user[trained], log.at[trained])
    late = share(int((log.at[held] < latest[log.user[held]]).sum()), int(held.sum()))
    checks.add("split_order", late, f"{percent(late)} of the held-out positives are earlier than one of training")
