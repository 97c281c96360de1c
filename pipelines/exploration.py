"""Active learning: the items or users of which a run knows least, as a list of what to show or to ask next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq

from pipelines.answers import write_rows
from pipelines.artefacts import check_file
from pipelines.calibration import platt
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part, split
from pipelines.errors import BadInput
from pipelines.judge import Slates
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare_for
from pipelines.progress import say
from pipelines.rankers import Queries
from pipelines.result import Result
from pipelines.run import Run
from pipelines.trained import first_stage
from pipelines.uncertainty import By, Doubt, DroppedOut, Member, distinct

_DRAWS = 8
_CALIBRATED_ON = 2000


def explore(
    run: Run,
    dataset: Dataset,
    out: Path | str,
    *,
    what: str = "items",
    by: str = "committee",
    k: int = 100,
    committee: Sequence[Run] = (),
    feed: int = 10,
    sample: int = 1000,
    most_alike: float | None = None,
    seed: int = 17,
) -> Result:
    """Write the `k` items or users worth exploring next, the least sure first; returns what was done.

    The towers alone are asked, or the ensemble: a second stage orders what they retrieve, and what they do not retrieve
    is what nobody learns of. Of items, those on offer at the end of `dataset`; how unsure is `uncertainty.Doubt`. A
    probability is that of a click given that the request has one, calibrated on requests of `dataset`, as far as
    possible on such as the run was not trained on. Where most probabilities are below a half, entropy names what is
    likeliest clicked.

    Args:
        what: "items", by mean over a sample of users; or "users", each by the own feed.
        by: "entropy", "margin" or "committee".
        committee: Runs that vote beside `run`; without them `run` votes with units dropped out, eight times.
        feed: Items of a user's feed.
        sample: Users asked about items, drawn with `seed`.
        most_alike: Leave out what has a higher cosine to something listed before it.

    Raises:
        BadInput: A value is out of range; there is nothing to list or to calibrate on; or a committee that cannot
            disagree, or that was trained on other items.

    Example:
        >>> from pipelines import Dataset, Run, explore
        >>> explore(Run.open("run"), Dataset.open("data"), "unsure.tsv", k=5)["rows"]
        5
    """
    _check(what, by, k, feed, sample, most_alike, committee)
    out = check_file(Path(out))
    data = prepare_for(run, dataset)
    towers = first_stage(run, data)
    members = _members(run, dataset, data, towers, committee, by)
    log, catalogue = data.behaviour.interactions, data.catalogue
    doubt = Doubt(data, members, _by(by), data.on_offer_now(), feed)
    users = np.arange(len(log.user_ids))
    if what == "items":
        if len(users) > sample:
            users = np.sort(np.random.default_rng(seed).choice(users, sample, replace=False))
        scores = doubt.of_items(users)
    else:
        scores = doubt.of_users(users)
    known = np.flatnonzero(np.isfinite(scores))
    if not len(known):
        raise BadInput(f"{dataset.folder} has no {what} to list: nothing is on offer that would be new to a user.")
    order = known[np.argsort(-scores[known], kind="stable")]
    vectors = _vectors(towers, data, what) if most_alike is not None else np.zeros((0, 1))
    listed = distinct(order, vectors, k, most_alike)
    if len(listed) < k:
        say(f"{len(listed):,} of the {k:,} {what} asked for: there are no more" + (" so unlike" if most_alike else ""))
    rows: list[tuple[Any, ...]]
    if what == "items":
        count = np.bincount(log.item, minlength=len(catalogue) + 1)[1:]
        header: tuple[str, ...] = ("item_id", "score", "positives", "title")
        rows = [(catalogue.ids[row], f"{scores[row]:.7g}", count[row], _line(catalogue.title[row])) for row in listed]
    else:
        header, count = ("user_id", "score", "positives"), np.diff(log.user_offsets)
        rows = [(log.user_ids[row], f"{scores[row]:.7g}", count[row]) for row in listed]
    written = write_rows(out, header, rows)
    done = {"rows": written, "file": str(out), "what": what, "by": by, "members": len(members), "among": len(known)}
    return Result(done, exploration_lines)


def exploration_lines(done: dict[str, Any]) -> list[str]:
    """What was written, as plain text."""
    return [f"{done['rows']:,} of {done['among']:,} {done['what']} written to {done['file']}"]


def _by(name: str) -> By:
    found: dict[str, By] = {each: each for each in get_args(By)}
    return found[name]


def _check(
    what: str,
    by: str,
    k: int,
    feed: int,
    sample: int,
    most_alike: float | None,
    committee: Sequence[Run],
) -> None:
    if what not in ("items", "users"):
        raise BadInput(f"--what is items or users, not {what!r}.")
    if by not in get_args(By):
        raise BadInput(f"--by is {', '.join(get_args(By)[:-1])} or {get_args(By)[-1]}, not {by!r}.")
    for name, value in (("k", k), ("feed", feed), ("sample", sample)):
        if value < 1:
            raise BadInput(f"--{name} must be 1 or more, not {value}.")
    if most_alike is not None and not 0 < most_alike < 1:
        raise BadInput(f"--most-alike is a cosine between 0 and 1, not {most_alike}.")
    if committee and by != "committee":
        raise BadInput(f"--committee goes with --by committee, not with --by {by}.")


def _members(
    run: Run, dataset: Dataset, data: Prepared, towers: ModelRanker, committee: Sequence[Run], by: str
) -> list[Member]:
    if by == "margin":
        return [Member(towers)]  # its order does not depend on a calibration
    first = _calibrated(run, dataset, data, towers)
    if by == "entropy":
        return [first]
    if not committee:
        settings = run.recipe.towers
        if settings.hidden:
            raise BadInput(
                f"{run.folder} has batch normalisation (towers.hidden), which dropout alone cannot draw from: "
                "name other runs with --committee."
            )
        if not max(settings.dropout, settings.history_dropout, settings.id_dropout):
            raise BadInput(f"{run.folder} has no dropout to draw from: name other runs with --committee.")
        return [Member(DroppedOut(towers), first.slope, first.intercept) for _ in range(_DRAWS)]
    own_items = None
    members = [first]
    for other in committee:
        if other.recipe.data.positive_rating != run.recipe.data.positive_rating:
            raise BadInput(f"{other.folder} and {run.folder} do not take the same ratings for positive.")
        if other.origin.data != run.origin.data:
            own_items = _items(run) if own_items is None else own_items
            if _items(other) != own_items:
                raise BadInput(
                    f"{other.folder} was trained on other items than {run.folder}: a committee shares its items."
                )
        theirs = prepare_for(other, dataset)
        members.append(_calibrated(other, dataset, theirs, first_stage(other, theirs)))
    return members


def _items(run: Run) -> set[str]:
    return set(pq.read_table(run.training_data().items, columns=["item_id"])["item_id"].to_pylist())


def _calibrated(run: Run, dataset: Dataset, data: Prepared, towers: ModelRanker) -> Member:
    """The towers with Platt's line, on the newest requests with a click and an item left alone."""
    every = Slates.of(data.behaviour, np.ones(len(data.behaviour.requests), bool), known_only=True)
    clicks = np.bincount(every.request(), every.clicked, minlength=len(every.queries))
    usable = (clicks > 0) & (clicks < np.diff(every.offsets))
    if not usable.any():
        raise BadInput(
            f"{dataset.folder} has no request with a click and an item left alone to calibrate on: use --by margin."
        )
    rule = run.recipe.data.split
    if run.was_trained_on(dataset) and rule.by in ("time", "last", "users"):
        part = split(data.behaviour, rule, on_requests=True, seed=run.recipe.training.seed).requests
        held = usable & ((part == Part.TEST) | ((part == Part.VALIDATION) & (not run.recipe.training.refit)))
        if held.any():
            usable = held
        else:
            say(f"calibrated on requests that {run.folder} was trained on, since there are no others")
    chosen = np.zeros(len(usable), bool)
    chosen[np.flatnonzero(usable)[-_CALIBRATED_ON:]] = True
    slates = Slates.of(data.behaviour, chosen, known_only=True)
    return Member(towers, *platt(slates.scores(towers), slates.clicked))


def _vectors(towers: ModelRanker, data: Prepared, what: str) -> np.ndarray:
    """Embeddings of all items, or of all users at the end of the dataset."""
    if what == "items":
        return towers.items
    log = data.behaviour.interactions
    users = np.arange(len(log.user_ids))
    return towers.embed(Queries(users, log.user_offsets[users + 1], np.full(len(users), data.end)))


def _line(text: str) -> str:
    return " ".join(text.split())
