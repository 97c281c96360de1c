"""Recommendations from a bundle, and new articles encoded on the box."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving.edge import requests
from serving.edge.bundle import Bundle
from serving.edge.catalogue import Added, Catalogue
from serving.edge.errors import BadBundle, BadRequest, NotFound
from serving.edge.journal import Article, Entry, Journal, re_encoded
from serving.edge.requests import Query
from serving.edge.wordpiece import join_fields, strip

MAX_ADDED = 10_000  # articles added on the box that are on offer; a new bundle has room for all
_HOUR = 3600.0


class Ranked(NamedTuple):
    """A candidate's score and, with a second stage, the probability of each of its tasks, such as `click`."""

    item: str
    score: float
    probabilities: dict[str, float]


class EdgeRecommender:
    """Answers as the exported model's signatures do, within what quantisation costs, on one thread of the processor.

    It may be used from several threads, which take turns in the models. A request sees one state of the catalogue, even
    if an article is added meanwhile. Popularity does not move after the export.

    Args:
        bundle: A bundle, or its folder.
        journal: Keeps what is added and removed; in memory alone by default.

    Raises:
        BadBundle: The bundle cannot be used; see `Bundle.open`.

    Example:
        >>> from serving import EdgeRecommender
        >>> edge = EdgeRecommender("bundles/1")
        >>> first, *others = edge.recommend([], k=3)  # somebody of whom nothing is known
        >>> history = [(first[0], 7_200, 31, 0.8)]  # two hours ago, for 31 s, down to 80 %
        >>> len(others), first[0] in dict(edge.recommend(history, k=3))
        (2, False)
    """

    def __init__(self, bundle: Bundle | Path | str, journal: Journal | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
        self._journal = Journal(None) if journal is None else journal
        self._changing = threading.Lock()
        self._catalogue = Catalogue(self.bundle.items, {})
        self._try()
        self._catalogue = self._replayed()

    def __len__(self) -> int:
        """Items on offer."""
        return int(np.count_nonzero(self._catalogue.on_offer))

    def recommend(
        self,
        history: Iterable[Sequence[Any]] = (),
        *,
        language: str = "",
        device: str = "",
        time_seconds: int = 0,
        exclude: Iterable[str] = (),
        k: int | None = None,
    ) -> list[tuple[str, float]]:
        """Ids and scores of the best items for a user, best first; neither the history nor `exclude` is among them.

        With a second stage, what the first one retrieves is ordered by it, so that there are no more items than it is
        given, and scores are its own.

        Args:
            history: (id, age in seconds, dwell in seconds, scroll depth from 0 to 1), oldest first; what is left out at
                the end counts as 0. Ids that are not known are passed over.
            time_seconds: Of the request, whole seconds since 1970, UTC; 0 for unknown.
            k: How many; by default as many as the exported model gives.

        Raises:
            BadRequest: A value is of the wrong type or out of bounds.
        """
        query = Query.of(history, language, device, time_seconds)
        wanted = self.bundle.manifest.top_k if k is None else requests.count(k)
        excluded = requests.ids("exclude", exclude)
        catalogue, ranking = self._catalogue, self.bundle.manifest.ranking
        hidden = catalogue.rows([*(event.item for event in query.history), *excluded])
        rows, user = self._user(catalogue, query)
        found, scores = catalogue.best(user, hidden, wanted if ranking is None else ranking.retrieve)
        if ranking is not None:
            scores = self._judged(catalogue, rows, user, found, query)["score"]
        return catalogue.ordered(found, scores, wanted)

    def rank(
        self,
        candidates: Sequence[str],
        history: Iterable[Sequence[Any]] = (),
        *,
        language: str = "",
        device: str = "",
        time_seconds: int = 0,
    ) -> list[Ranked]:
        """Scores of candidates, in their order. One that is not known counts as an item of which nothing is known.

        Raises:
            BadRequest: A value is of the wrong type or out of bounds.
        """
        query = Query.of(history, language, device, time_seconds)
        names = requests.ids("candidates", candidates)
        catalogue, ranking = self._catalogue, self.bundle.manifest.ranking
        rows, user = self._user(catalogue, query)
        places = [catalogue.row(name) for name in names]
        if ranking is None:
            known = np.array([place for place in places if place is not None], np.int64)
            scores = iter(catalogue.scores(user, known).tolist())
            return [
                Ranked(name, 0.0 if place is None else next(scores), {})
                for name, place in zip(names, places, strict=True)
            ]
        found = []
        for start in range(0, len(names), ranking.retrieve):
            some = np.array([-1 if p is None else p for p in places[start : start + ranking.retrieve]], np.int64)
            judged = self._judged(catalogue, rows, user, some, query)
            probability = (some >= 0)[:, None] / (1 + np.exp(-judged["log_odds"].astype(np.float64)))
            found += [
                Ranked(name, score, dict(zip(ranking.tasks, tasks, strict=True)))
                for name, score, tasks in zip(
                    names[start : start + ranking.retrieve], judged["score"].tolist(), probability.tolist(), strict=True
                )
            ]
        return found

    def embed_user(
        self, history: Iterable[Sequence[Any]] = (), *, language: str = "", device: str = "", time_seconds: int = 0
    ) -> np.ndarray:
        """A user's embedding (D,) float32.

        Raises:
            BadRequest: A value is of the wrong type or out of bounds.
        """
        return self._user(self._catalogue, Query.of(history, language, device, time_seconds))[1]

    def embed_item(self, item: str = "", **known: Any) -> np.ndarray:
        """The embedding (D,) float32 of an item by what is known of it: `title`, `body`, `language`, `category`,
        `tags`; and by its id, where the model learned it.

        Raises:
            BadRequest: A value is of the wrong type.
        """
        _, article = requests.article(item or " ", **known)
        return self._encoded(item, article)[0]

    def add_item(self, item: str, **known: Any) -> None:
        """Encode an article, and recommend it from now on; one with the same id is replaced.

        Args:
            known: `title`, `body`, `language`, `category`, `tags` and `published_at`, whole seconds since 1970.

        Raises:
            BadRequest: A value is of the wrong type, or there is no room for more.
        """
        item, article = requests.article(item, **known)
        embedding, appeal = self._encoded(item, article)
        identity = self.bundle.identity
        with self._changing:
            old = self._catalogue
            if item not in old.added and len(old.added) >= MAX_ADDED:
                old = self._with_room(old)
            entry = Entry(item, article, identity, identity, embedding, appeal)
            added = self._added(entry, embedding)
            self._journal.append(entry)
            self._catalogue = Catalogue(old.items, {**old.added, item: added}, old.removed - {item})

    def remove_item(self, item: str) -> None:
        """Recommend an item no more.

        Histories that have it still count: of one that was added on the box, until another bundle is served, or a new
        article needs the room.

        Raises:
            NotFound: There is no such item.
        """
        item = requests.item_id(item)
        with self._changing:
            if self._catalogue.row(item) is None:
                raise NotFound(f"There is no item {item[:200]!r}.")
            old = next((each for each in self._journal.entries if each.item == item), None)
            keep = old if item in self._catalogue.added and old is not None else Entry(item, None)
            self._journal.append(replace(keep, on_offer=False))
            self._catalogue = _without(self._catalogue, item)

    def _with_room(self, catalogue: Catalogue) -> Catalogue:
        """The catalogue without an article that was added and removed; that it was removed is still known."""
        added = dict(catalogue.added)
        gone = next((item for item, each in added.items() if not each.on_offer), None)
        if gone is None:
            raise BadRequest(
                f"{MAX_ADDED} articles that were added to this bundle are on offer: remove some, or serve a newer one."
            )
        self._journal.append(Entry(gone, None, on_offer=False))
        del added[gone]
        return Catalogue(catalogue.items, added, catalogue.removed | ({gone} & catalogue.items.place.keys()))

    def _user(self, catalogue: Catalogue, query: Query) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the last known events (E,), and the embedding (D,)."""
        size = self.bundle.manifest
        known = [(row, event) for event in query.history if (row := catalogue.row(event.item)) is not None]
        known = known[-size.history :]
        rows, events = np.array([row for row, _ in known], np.int64), len(known)
        inputs: dict[str, np.ndarray] = {"history": np.zeros((1, size.history, size.width), np.float32)}
        inputs["history"][0, :events] = catalogue.vectors(rows)
        inputs["present"] = (np.arange(size.history) < events).astype(np.float32)[None]
        for name in ("age_seconds", "dwell_seconds", "scroll_depth"):
            inputs[name] = np.zeros((1, size.history), np.float32)
            inputs[name][0, :events] = [getattr(event, name) for _, event in known]
        inputs["language"] = self._index("language", query.language)
        inputs["device"] = self._index("device", query.device)
        inputs["time_seconds"] = np.array([query.time_seconds], np.int64)
        return rows, self.bundle.user(inputs)["embedding"][0]

    def _judged(
        self, catalogue: Catalogue, history: np.ndarray, user: np.ndarray, candidates: np.ndarray, query: Query
    ) -> dict[str, np.ndarray]:
        """The second stage's `log_odds` (C, tasks) and `score` (C,) of rows (C,); -1 is an item that is not known."""
        ranker, ranking, size = self.bundle.ranker, self.bundle.manifest.ranking, self.bundle.manifest
        assert ranker is not None
        assert ranking is not None
        # The model's own table of items: nothing, the history, the candidates.
        rows = np.full(1 + size.history + ranking.retrieve, -1, np.int64)
        rows[1 : 1 + len(history)] = history
        first = 1 + size.history
        rows[first : first + len(candidates)] = candidates
        local = np.where(rows >= 0, np.arange(len(rows), dtype=np.int32), np.int32(0))[None]
        there, wanted = rows >= 0, rows[rows >= 0]

        def column(name: str) -> np.ndarray:
            values = catalogue.columns[name]
            found = np.zeros((len(rows), *values.shape[1:]), values.dtype)
            found[there] = values[wanted]
            return found

        table = np.zeros((len(rows), size.width), np.float32)
        table[there] = catalogue.vectors(wanted)
        published = column("published_at")[first:]
        age = np.maximum(query.time_seconds - published, 0).astype(np.float32) / np.float32(_HOUR)
        dated = (published != 0) & (query.time_seconds > 0)
        judged = ranker(
            {
                "user": user[None],
                "history": local[:, 1:first],
                "item": local[:, first:],
                "clicks": column("clicks")[None, first:],
                "click_rate": column("click_rate")[None, first:],
                "age_hours": np.where(dated, age, np.float32(-1))[None],
                "embedding": table,
                **{name: column(name) for name in ("category", "tags", "appeal")},
            }
        )
        return {name: judged[name][0, : len(candidates)] for name in ("log_odds", "score")}

    def _encoded(self, item: str, article: Article) -> tuple[np.ndarray, float]:
        """Embedding (D,) and, with a second stage, appeal."""
        inputs = {
            "category": self._index("category", article.category),
            "tags": self._tags(article)[None],
            "language": self._index("language", article.language),
            "item": self._index("item", item),
        }
        tokenizer = self.bundle.tokenizer
        if tokenizer is not None:
            texts = _texts(self.bundle.manifest.fields, article)
            ids, masks = zip(*map(tokenizer.encode, texts), strict=True)
            inputs["token_ids"], inputs["padding_mask"] = np.array(ids, np.int32), np.array(masks, np.int32)
            inputs["known"] = np.array([[bool(text)] for text in texts], np.float32)
        found = self.bundle.content(inputs)
        embedding = found["embedding"][0].astype(np.float32)
        if not np.isfinite(embedding).all():
            raise BadRequest("The model makes no numbers of this article.")
        return embedding, float(found["appeal"][0]) if "appeal" in found else 0.0

    def _added(self, entry: Entry, embedding: np.ndarray) -> Added:
        article = entry.article or Article()
        category = int(self._index("category", article.category)[0])
        return Added(embedding, category, self._tags(article), entry.appeal, article.published_at, entry.on_offer)

    def _index(self, name: str, value: str) -> np.ndarray:
        return np.array([self.bundle.vocabularies[name].get(value, 0)], np.int32)

    def _tags(self, article: Article) -> np.ndarray:
        """(T,) the first distinct known tags."""
        known = [self.bundle.vocabularies["tag"].get(tag, 0) for tag in article.tags]
        distinct = [tag for tag in dict.fromkeys(known) if tag][: self.bundle.manifest.tags_kept]
        return np.array([*distinct, *[0] * (self.bundle.manifest.tags_kept - len(distinct))], np.int32)

    def _replayed(self) -> Catalogue:
        """The catalogue with the journal's changes, each article encoded by this bundle's model."""
        added: dict[str, Added] = {}
        removed: set[str] = set()
        entries, changed, items = [], False, self.bundle.items
        for entry in self._journal.entries:
            if not entry.on_offer:
                removed.add(entry.item)
                if entry.article and entry.encoded_by != self.bundle.identity:
                    # Not worth encoding. Its id is kept: a bundle may have it that was made before it was removed.
                    entry, changed = Entry(entry.item, None, on_offer=False), True
            # What the bundle learned of an item after it was put here is better.
            if entry.article and (entry.item not in items.place or entry.put_on == self.bundle.identity):
                if entry.encoded_by != self.bundle.identity or entry.embedding is None:
                    entry = re_encoded(entry, self.bundle.identity, *self._encoded(entry.item, entry.article))
                    changed = True
                assert entry.embedding is not None
                added[entry.item] = self._added(entry, entry.embedding)
            entries.append(entry)
        if changed:
            self._journal.rewrite(entries)
        return Catalogue(items, added, frozenset(removed & set(items.place)))

    def _try(self) -> None:
        """Run every model once: a file that was converted badly gives NaN, or cannot run at all."""
        try:
            _, user = self._user(self._catalogue, Query())
            finite = bool(np.isfinite(user).all())
            if self.bundle.ranker is not None:
                first = np.arange(min(1, len(self.bundle.items)))
                judged = self._judged(self._catalogue, first, user, first, Query())
                finite = finite and all(bool(np.isfinite(each).all()) for each in judged.values())
        except (ValueError, RuntimeError) as error:
            raise BadBundle(
                f"{self.bundle.folder} cannot be run here ({' '.join(str(error).split())[:200]})."
            ) from None
        if not finite:
            raise BadBundle(f"{self.bundle.folder} gives answers that are no numbers: convert the model again.")


def _texts(fields: str, article: Article) -> list[str]:
    if fields == "joined":
        return [join_fields(article.title, article.body)]
    return [strip(article.title), strip(article.body)][: 2 if fields == "separate" else 1]


def _without(catalogue: Catalogue, item: str) -> Catalogue:
    added, removed = dict(catalogue.added), set(catalogue.removed)
    if item in added:
        added[item] = replace(added[item], on_offer=False)
    else:
        removed.add(item)
    return Catalogue(catalogue.items, added, frozenset(removed))
