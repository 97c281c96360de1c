"""`score` and `recommend`: a run's answers as TSV files, with ids exactly as the source wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_file
from pipelines.data.dataset import Dataset
from pipelines.data.window import NOBODY
from pipelines.errors import BadInput
from pipelines.judge import Slates, unseen
from pipelines.prepare import Prepared, prepare_for
from pipelines.progress import say, track
from pipelines.rankers import Queries
from pipelines.run import Run
from pipelines.trained import trained_ranker

_SCORES_AT_ONCE = 20_000_000


def score(run: Run, dataset: Dataset, out: Path | str) -> int:
    """Write request_id, item_id and score for every impression of `dataset`; returns the number of rows.

    An item that the catalogue does not know is level with the last of its request.

    Raises:
        BadInput: The dataset has no impressions with a request_id.

    Args:
        run: Whose model scores.
        dataset: With impressions.
        out: A file for the table, tab-separated, ids as the source wrote them.

    Example:
        >>> from pipelines import Dataset, Run, score
        >>> score(Run.open("run"), Dataset.open("data"), "scores.tsv") > 4_000
        True
    """
    data = prepare_for(run, dataset)
    behaviour = data.behaviour
    if not len(behaviour.requests):
        raise BadInput(f"{dataset.folder} has no impressions with a request_id: there is nothing to score.")
    slates = Slates.of(behaviour, np.ones(len(behaviour.requests), bool))
    scores = slates.scores(trained_ranker(run, data))
    request_ids = np.repeat(behaviour.requests.ids, np.diff(behaviour.requests.offsets))
    rows = zip(request_ids, behaviour.requests.item_ids, (f"{value:.7g}" for value in scores), strict=True)
    unknown = int((slates.item == 0).sum())
    if unknown:
        say(f"{unknown:,} of {len(scores):,} shown items are not in the catalogue: level with the last of theirs")
    return write_rows(Path(out), ("request_id", "item_id", "score"), rows)


def recommend(
    run: Run,
    dataset: Dataset,
    out: Path | str,
    *,
    k: int = 10,
    candidates: Path | str | Sequence[str] | None = None,
    users: Path | str | Sequence[str] | None = None,
) -> int:
    """Write user_id, item_id, rank and score of each user's best `k` items; returns the number of rows.

    What a user has already wanted is left out, and what is not on offer. The moment is the end of the dataset, the
    device the last one known of the user.

    Args:
        run: Whose model ranks.
        dataset: Whose users, items and events count.
        out: A file for the table, tab-separated, ids as the source wrote them.
        k: K, items of a user.
        candidates: Only these items: a list of ids, or the path of a file with an id a line. Whoever names them has
            decided that they are on offer.
        users: Only these users, in that order, a list or a file as above; a user without a history gets what suits
            everybody.

    Raises:
        BadInput: A file cannot be read, or holds no id that the dataset knows.

    Example:
        >>> from pipelines import Dataset, Run, recommend
        >>> recommend(Run.open("run"), Dataset.open("data"), "feeds.tsv", k=3, users=["u000019"])
        3
        >>> from pathlib import Path
        >>> Path("feeds.tsv").read_text().splitlines()[0].split()
        ['user_id', 'item_id', 'rank', 'score']
    """
    rows = recommendations(run, prepare_for(run, dataset), k=k, candidates=candidates, users=users)
    written = ((user, item, rank, f"{value:.7g}") for user, item, rank, value in rows)
    return write_rows(Path(out), ("user_id", "item_id", "rank", "score"), written)


def recommendations(
    run: Run,
    data: Prepared,
    *,
    k: int,
    candidates: Path | str | Sequence[str] | None = None,
    users: Path | str | Sequence[str] | None = None,
) -> Iterator[tuple[str, str, int, float]]:
    """The rows that `recommend` writes, one after the other: user_id, item_id, rank from 1, score."""
    catalogue, behaviour, log = data.catalogue, data.behaviour, data.behaviour.interactions
    allowed = data.on_offer_now()
    if candidates is not None:
        wanted = _ids(candidates)
        allowed = np.isin(catalogue.ids.astype(str), np.array(wanted, dtype=str))
        if not allowed.any():
            where = f"{candidates}: none of its" if isinstance(candidates, Path | str) else "none of the"
            raise BadInput(f"{where} {len(wanted):,} items is in {data.name}.")
        if allowed.sum() < len(set(wanted)):
            say(
                f"{len(set(wanted)) - int(allowed.sum()):,} of the candidates are not in the catalogue and are left out"
            )
    ids = list(log.user_ids) if users is None else _ids(users)
    place = {user: row for row, user in enumerate(log.user_ids)}
    known = [user for user in ids if user in place]
    if len(known) < len(ids):
        say(f"{len(ids) - len(known):,} of the users are not in the dataset: they get what a new user gets")
    ranker = trained_ranker(run, data)
    size = max(1, min(1024, _SCORES_AT_ONCE // len(catalogue)))
    blocks = range(0, len(ids), size)
    for start in track(blocks, "recommending", len(blocks)):
        block = ids[start : start + size]
        row = np.array([place.get(user, NOBODY) for user in block], dtype=np.int64)
        ends = np.where(row == NOBODY, 0, log.user_offsets[row + 1])
        queries = Queries(row, ends, np.full(len(row), data.end))
        scores = ranker.catalogue(queries, unseen(behaviour, queries, len(catalogue)) & allowed)
        best = [_top(values, k) for values in scores]
        pairs = np.repeat(np.arange(len(block)), [len(items) for items in best])
        # What ranks a whole catalogue need not be a score; what is given is the one that a server gives too.
        values = iter(ranker.pairs(queries, pairs, np.concatenate(best)))
        for user, items in zip(block, best, strict=True):
            for rank, (item, value) in enumerate(zip(items, values, strict=False), start=1):
                yield str(user), str(catalogue.ids[item]), rank, float(value)


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best of what is not hidden; among equal scores the smaller id, which is the smaller place, is first."""
    order = np.argsort(-scores, kind="stable")[:k]
    return order[np.isfinite(scores[order])]


def _ids(among: Path | str | Sequence[str]) -> list[str]:
    if not isinstance(among, Path | str):
        if not len(among):
            raise BadInput("an empty list of ids: name at least one, or leave it out.")
        return list(among)
    path = Path(among)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a list of ids, one a line ({error}).") from None
    ids = [line for line in lines if line.strip()]
    if not ids:
        raise BadInput(f"{path} is empty: it should hold an id a line.")
    return ids


def write_rows(out: Path, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> int:
    """Write a TSV atomically; returns the number of rows below the header."""
    count = 0
    # Ids stand as the source wrote them, unquoted: the import lets no tab and no line end into one.
    with atomic_file(out) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        file.write("\t".join(header) + "\n")
        for row in rows:
            file.write("\t".join(map(str, row)) + "\n")
            count += 1
    return count
