"""How the cost of fine-tuning grows with the catalogue: recipes/news_finetuned.yaml on 1,000 to 100,000 articles.

Articles are random words, as long as the recipe reads at most; every user has read 20 of them and was shown six more.
What is read and shown is skewed (Zipf), as news is.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from recipes import shipped

_SIZES = (1_000, 10_000, 100_000)
_USERS, _READ, _SHOWN = 2048, 20, 6


def run() -> None:
    from benchmarks.commands import measure

    for articles in _SIZES:
        print(measure(sys.executable, "-m", "benchmarks.finetuning.scaling", str(articles)).output.strip(), flush=True)


def one(articles: int) -> str:
    """Two epochs; the rates are of the second, which traces nothing."""
    from pipelines.data.examples import TrainingExamples
    from pipelines.epoch import train_epoch
    from pipelines.fine_tune import FineTuner
    from pipelines.optimizer import ever_trained, optimizer_for
    from pipelines.recipe import Recipe

    recipe = Recipe.load(shipped("news_finetuned"))
    model = _model(recipe, articles)
    behaviour, window = _behaviour(articles, np.random.default_rng(1))
    log = behaviour.interactions
    examples = TrainingExamples(
        behaviour,
        window,
        log.request >= 0,
        items=articles,
        batch_size=recipe.training.batch_size,
        shown_negatives=recipe.training.shown_negatives,
        max_per_user=None,
        seed=1,
    )
    read = window.items(log.user[examples.rows], log.history_end[examples.rows])
    distinct = [_candidates(examples, number) for number in range(len(examples))]
    assert recipe.fine_tuning is not None
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        texts = _texts(model.text_top.encoder.value, articles)
        tuner = FineTuner(model, recipe.fine_tuning, texts, Path(folder), read)
        once = time.perf_counter() - start
        disk = tuner.states.path.stat().st_size
        tuner.renew()
        optimizer = optimizer_for(recipe, model)
        optimizer.build(ever_trained(model, [tuner]))
        model.compile(optimizer=optimizer, jit_compile=False)
        train_epoch(model, examples, [tuner], 1, 2)
        start = time.perf_counter()
        train_epoch(model, examples, [tuner], 2, 2)
        epoch = time.perf_counter() - start
        start = time.perf_counter()
        tuner.renew(read)
        renewal = time.perf_counter() - start
        start = time.perf_counter()
        tuner.renew()
        last = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{articles:7,} articles: frozen layers once {once:.0f} s ({once / articles * 1000:.1f} ms an article), "
        f"{disk / 2**20:,.0f} MiB on disk; {len(examples.rows) / (epoch - renewal):.0f} examples/s "
        f"({np.mean(distinct):.0f} distinct candidates a step); renewal of the {len(read):,} that histories hold "
        f"{renewal:.1f} s an epoch, of all {last:.1f} s at the end; peak {peak:,.0f} MiB"
    )


def _candidates(examples: Any, number: int) -> int:
    batch = examples.batch(2, number)
    return len(np.unique(np.r_[batch["positive"], batch["shown"].ravel()]))


def _model(recipe: Any, articles: int) -> Any:
    """The recipe's two towers over articles whose text vectors come from the first renewal."""
    from pipelines.build import text_top
    from towers.behaviour import BehaviourTower
    from towers.content import ContentTower
    from towers.features import ItemTable
    from towers.runtime import seed_everything
    from towers.two_tower import TwoTower

    seed_everything(recipe.training.seed)
    towers, nothing = recipe.towers, np.zeros(articles + 1, np.int32)
    top = text_top(recipe)
    vectors = np.zeros((articles + 1, top.encoder.value.width), np.float32)
    model = TwoTower(
        ContentTower(towers.width, dropout=towers.dropout, train_projection=False),
        BehaviourTower(encoder=towers.history_encoder, units=towers.history_units, dropout=towers.history_dropout),
        ItemTable.from_arrays(vectors, nothing, nothing[:, None], nothing, nothing),
        text_top=top,
        in_batch_weight=recipe.training.in_batch_weight,
        shown_weight=recipe.training.shown_weight,
    )
    model.build({"history": (None, recipe.features.history)})
    return model


def _texts(encoder: Any, articles: int) -> np.ndarray:
    """Whole words of the encoder's own vocabulary, more than it reads."""
    words = np.array([word for word in encoder.preprocessor.tokenizer.get_vocabulary() if word.isalpha()])
    drawn = np.random.default_rng(2).integers(len(words), size=(articles, encoder.max_tokens))
    return np.array([" ".join(row) for row in words[drawn]], dtype=object)


def _behaviour(articles: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Users with 20 events and one request each, in which the first article was clicked."""
    from pipelines.data.examples import HistoryWindow
    from pipelines.data.histories import Behaviour, Interactions, Requests

    share = 1 / (np.arange(articles) + 10.0)
    item = rng.choice(articles, (_USERS, _READ + _SHOWN), p=share / share.sum()).astype(np.int32) + 1
    users, width = np.arange(_USERS), _READ + 1
    events = _USERS * width
    end = users * width + _READ
    clicked = np.tile(np.arange(_SHOWN) == 0, _USERS)
    at = np.tile(np.arange(width), _USERS) * 3600 + 1_600_000_000
    names = np.full(events, "", dtype=object)
    request = np.where(np.tile(np.arange(width), _USERS) == _READ, np.repeat(users, width), -1)
    log = Interactions(
        user_ids=users.astype(str),
        user_language=np.full(_USERS, ""),
        user_offsets=np.arange(_USERS + 1) * width,
        user=np.repeat(users, width),
        item=item[:, :width].ravel(),
        at=at,
        dwell=np.zeros(events, np.float32),
        scroll=np.zeros(events, np.float32),
        device=names,
        request=request,
        history_end=np.repeat(users * width, width) + np.tile(np.arange(width), _USERS),
    )
    shown = item[:, _READ:].ravel()
    requests = Requests(
        ids=users.astype(str),
        user=users,
        at=at[end],
        device=names[:_USERS],
        history_end=end,
        offsets=np.arange(_USERS + 1) * _SHOWN,
        item=shown,
        item_ids=shown.astype(str),
        clicked=clicked,
        read=clicked,
        liked=clicked,
    )
    window = HistoryWindow(log, 50, True, np.zeros(_USERS, np.int32))
    return Behaviour(log, requests, 0), window


if __name__ == "__main__":
    print(one(int(sys.argv[1])))
