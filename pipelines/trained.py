"""A run as the ranker that it is: two towers, or two stages."""

from __future__ import annotations

import numpy as np

from pipelines.data.histories import Behaviour
from pipelines.errors import BadInput
from pipelines.model_ranker import ModelRanker
from pipelines.popularity import Popularity
from pipelines.prepare import Prepared, prepare
from pipelines.progress import say, stages
from pipelines.rankers import Ranker
from pipelines.ranking import build_ranking, load_ranking
from pipelines.run import RANKER, Run
from pipelines.second_stage import RankingInputs, TwoStageRanker


def first_stage(run: Run, data: Prepared) -> ModelRanker:
    """The two towers of a run over a dataset's items."""
    with stages("the run", {"loading its towers": 1}) as begin:
        begin("loading its towers")
        return ModelRanker(run.model(data.catalogue), data.window)


def second_stage(run: Run, data: Prepared, first: ModelRanker, *, own: Prepared | None = None) -> TwoStageRanker | None:
    """The second stage over `first`, if the run has one.

    What the run was trained on counts as past popularity, as far as it came before `data` begins and is still there.

    Args:
        own: The run's own dataset, where it has been prepared already.
    """
    settings = run.recipe.ranking
    if settings is None:
        return None
    stage = build_ranking(settings, run.vocabulary, first.model.content.width)
    load_ranking(stage, run.folder / RANKER)
    logs = [(data.behaviour, np.arange(len(data.catalogue) + 1))]
    if {"clicks", "click_rate"} & set(settings.features):
        logs += _past(run, data, own)
    inputs = RankingInputs(first, stage.appeal, Popularity.of(logs), data.catalogue.published_at)
    return TwoStageRanker(inputs, stage.tower, max(settings.retrieve, run.recipe.export.top_k))


def _past(run: Run, data: Prepared, own: Prepared | None) -> list[tuple[Behaviour, np.ndarray]]:
    if own is None:
        try:
            dataset = run.training_data()
        except BadInput:
            say(f"popularity is counted in {data.name} alone: {run.origin.dataset} is no longer there")
            return []
        own = prepare(dataset, run.recipe)
    if own is data or own.window.has_times != data.window.has_times:  # nothing of a log came before it begins
        return []
    place = {item: row for row, item in enumerate(data.catalogue.ids, start=1)}
    return [(own.behaviour, np.array([0, *(place.get(item, 0) for item in own.catalogue.ids)]))]


def trained_ranker(run: Run, data: Prepared) -> Ranker:
    """The whole of a run: both stages, or the one that it has."""
    first = first_stage(run, data)
    return second_stage(run, data, first) or first
