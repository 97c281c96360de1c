"""Which examples train, which choose the epoch, and which are the test."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.data.draw import drawn_places
from pipelines.data.histories import Behaviour
from pipelines.errors import BadInput
from pipelines.recipe import Moments, Split


class Part(IntEnum):
    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    UNUSED = 3


@dataclass(frozen=True)
class Parts:
    """The part of every positive (E,) and of every request (R,)."""

    interactions: np.ndarray
    requests: np.ndarray

    def training_on(self, *parts: Part) -> Parts:
        """The same, with what was in `parts` in training."""
        return Parts(
            *(np.where(np.isin(part, parts), int(Part.TRAIN), part) for part in (self.interactions, self.requests))
        )


def split(behaviour: Behaviour, rule: Split, *, on_requests: bool, seed: int = 0) -> Parts:
    """Assign the parts, for a rule that leaves the log as it is.

    By time, the cut-offs are moments, so that nothing in training is later than anything in the test. They are
    quantiles of the requests' times, or of the positives' where there are no requests. A click that came after a
    cut-off is in the later part, even if its request is not.

    By last, only users with three positives or more are divided.

    Args:
        on_requests: Whether a request (with all its positives) is the unit, or a positive.
        seed: Of the draw of users.
    """
    interactions, requests = behaviour.interactions, behaviour.requests
    if rule.by == "none":
        return everything(behaviour, Part.TRAIN)
    if rule.moments is not None:
        return _split_at(behaviour, rule.moments, seed)
    if rule.by == "time":
        cuts = _moments(requests.at if on_requests else interactions.at, rule)
        return Parts(np.searchsorted(cuts, interactions.at, "right"), np.searchsorted(cuts, requests.at, "right"))
    if rule.by == "users":
        part = _drawn(len(interactions.user_offsets) - 1, rule, seed)
        return Parts(part[interactions.user], part[requests.user])
    from_end = np.repeat(interactions.user_offsets[1:], np.diff(interactions.user_offsets)) - np.arange(
        len(interactions)
    )
    enough = np.repeat(np.diff(interactions.user_offsets), np.diff(interactions.user_offsets)) >= 3
    part = np.select([enough & (from_end == 1), enough & (from_end == 2)], [Part.TEST, Part.VALIDATION], Part.TRAIN)
    request_part = np.zeros(len(requests), dtype=part.dtype)
    belongs = interactions.request >= 0
    np.maximum.at(request_part, interactions.request[belongs], part[belongs])
    if on_requests:  # no click of a tested slate may be trained on
        part[belongs] = request_part[interactions.request[belongs]]
    return Parts(part, request_part)


def _split_at(behaviour: Behaviour, moments: Moments, seed: int) -> Parts:
    """By time at given moments; of users who are not replayed, what came before `since` is history alone."""
    never = np.iinfo(np.int64).max
    test = never if moments.test is None else moments.test
    cuts = np.array([test if moments.validation is None else moments.validation, test])
    log = behaviour.interactions
    replayed = drawn_places(log.user_ids, seed) < moments.replay

    def part(at: np.ndarray, user: np.ndarray) -> np.ndarray:
        left_out = (at < moments.since) & ~replayed[user]
        return np.where(left_out, int(Part.UNUSED), np.searchsorted(cuts, at, "right"))

    return Parts(part(log.at, log.user), part(behaviour.requests.at, behaviour.requests.user))


def split_at_random(behaviour: Behaviour, rule: Split, seed: int) -> tuple[Behaviour, Parts]:
    """Shares of each user's positives, drawn at random, and the behaviour in which a user's validation part follows the
    training part and the test follows both: so is a history what is trained on, whenever it happened.

    At least one positive of every user is trained on. Slates have no place in such a split and are left out.
    """
    log = behaviour.interactions
    count = np.diff(log.user_offsets)
    drawn = np.lexsort((np.random.default_rng(seed).random(len(log)), log.user))
    place = np.empty(len(log), np.int64)
    place[drawn] = np.arange(len(log)) - np.repeat(log.user_offsets[:-1], count)
    kept = np.maximum(np.minimum(1, count), np.rint(count * (1 - rule.validation - rule.test)).astype(int))
    before_test = np.clip(np.rint(count * (1 - rule.test)).astype(int), kept, count)
    part = (place >= kept[log.user]).astype(int) + (place >= before_test[log.user])
    return _after_training(behaviour, part)


def held_items(catalogue: Catalogue, rule: Split, seed: int) -> np.ndarray:
    """(N + 1,) the part of every item under a rule by items or by language.

    Raises:
        BadInput: No item has the language, or every item has.
    """
    if rule.by == "items":
        return np.r_[int(Part.TRAIN), _drawn(len(catalogue), rule, seed)]
    of_language = catalogue.language == rule.language
    if of_language.all() or not of_language.any():
        what = "every item has" if len(of_language) and of_language.all() else "no item has"
        raise BadInput(f"data.split.language: {what} the language {rule.language!r}.")
    others = _drawn(len(catalogue), rule.model_copy(update={"test": 0.0}), seed)
    return np.r_[int(Part.TRAIN), np.where(of_language, int(Part.TEST), others)]


def split_by_items(behaviour: Behaviour, part_of_item: np.ndarray) -> tuple[Behaviour, Parts]:
    """Positives by the part of their item (N + 1,), and the behaviour in which histories hold training items alone."""
    return _after_training(behaviour, part_of_item[behaviour.interactions.item], causal=True)


def hide(behaviour: Behaviour, parts: Parts, held: np.ndarray) -> tuple[Behaviour, Parts]:
    """The same without what is known of the items `held` (N + 1,) bool before the test part.

    Their positives and their places in slates are left out of training, of validation and of all histories; what
    belongs to the test stays.
    """
    log, requests = behaviour.interactions, behaviour.requests
    kept = ~held[log.item] | (parts.interactions == Part.TEST)
    request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    return keep(behaviour, parts, kept, ~held[requests.item] | (parts.requests == Part.TEST)[request])


def keep(behaviour: Behaviour, parts: Parts, kept: np.ndarray, shown: np.ndarray) -> tuple[Behaviour, Parts]:
    """The same with the positives `kept` (E,) bool alone, in histories too, and what was `shown` (S,) bool alone."""
    log, requests = behaviour.interactions, behaviour.requests
    before = np.r_[0, np.cumsum(kept)]
    columns = {name: getattr(log, name)[kept] for name in (*_COLUMNS, "request")}
    ends = {"user_offsets": before[log.user_offsets], "history_end": before[log.history_end[kept]]}
    slates = {name: getattr(requests, name)[shown] for name in ("item", "item_ids", "clicked", "read", "liked")}
    left = replace(
        requests,
        **slates,
        offsets=np.r_[0, np.cumsum(shown)][requests.offsets],
        history_end=before[requests.history_end],
    )
    return (
        Behaviour(replace(log, **columns, **ends), left, behaviour.unknown),
        Parts(parts.interactions[kept], parts.requests),
    )


def _moments(at: np.ndarray, rule: Split) -> np.ndarray:
    """The moments at which validation, test and what is left out begin."""
    never = np.iinfo(np.int64).max
    if not len(at):
        return np.full(3, never)
    if rule.folds is not None:
        blocks = rule.folds + 1
        test, unused = (np.quantile(at, (rule.fold + more) / blocks, method="higher") for more in (1, 2))
        before = at[at < test]
        cut = len(before) and rule.validation
        validation = np.quantile(before, 1 - rule.validation, method="higher") if cut else test
        return np.array([validation, test, never if rule.fold + 2 == blocks else unused])
    # A share of zero keeps nothing back: its cut-off lies past its end.
    test = np.quantile(at, 1 - rule.test, method="higher") if rule.test else at.max() + 1
    first = 1 - rule.test - rule.validation
    return np.array([np.quantile(at, first, method="higher") if rule.validation else test, test, never])


def _drawn(count: int, rule: Split, seed: int) -> np.ndarray:
    """(count,) parts in the rule's shares, drawn with `seed`; a fold is the same share in every draw's order."""
    order = np.random.default_rng(seed).permutation(count)
    test = order[: round(count * rule.test)] if rule.folds is None else order[rule.fold :: rule.folds]
    part = np.full(count, int(Part.TRAIN))
    part[test] = Part.TEST
    rest = order[part[order] == Part.TRAIN]
    part[rest[: round(count * rule.validation)]] = Part.VALIDATION
    return part


_COLUMNS = ("user", "item", "at", "dwell", "scroll", "device")


def _after_training(behaviour: Behaviour, part: np.ndarray, *, causal: bool = False) -> tuple[Behaviour, Parts]:
    """The behaviour in which a user's validation part follows the training part, and the test follows both.

    What is held out has the training part for its history, or where `causal` only what came before it. Slates have no
    place in such an order and are left out.
    """
    log = behaviour.interactions
    order = np.lexsort((np.arange(len(log)), part, log.user))
    trained = np.r_[0, np.cumsum(part == Part.TRAIN)]
    before = trained[log.history_end] - trained[log.user_offsets[log.user]]
    kept = np.diff(trained[log.user_offsets]) if len(log.user_offsets) else trained[:0]
    if not causal:
        # The test is told of the validation part too.
        known = np.where(part == Part.TEST, _count(log.user, part < Part.TEST, len(kept))[log.user], kept[log.user])
        before = np.where(part == Part.TRAIN, before, known)
    columns = {name: getattr(log, name)[order] for name in _COLUMNS}
    end = (log.user_offsets[log.user] + before)[order]
    moved = replace(log, **columns, request=np.full(len(log), -1), history_end=end)
    requests = behaviour.requests
    nothing = {field.name: getattr(requests, field.name)[:0] for field in fields(requests)}
    empty = replace(requests, **{**nothing, "offsets": np.zeros(1, np.int64)})
    return Behaviour(moved, empty, behaviour.unknown), Parts(part[order], np.zeros(0, np.int64))


def _count(group: np.ndarray, chosen: np.ndarray, groups: int) -> np.ndarray:
    return np.bincount(group, weights=chosen, minlength=groups).astype(np.int64)


def everything(behaviour: Behaviour, part: Part) -> Parts:
    """All examples in one part, as when another dataset is the test."""
    return Parts(
        np.full(len(behaviour.interactions), int(part)),
        np.full(len(behaviour.requests), int(part)),
    )
