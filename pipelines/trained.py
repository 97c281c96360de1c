"""A run as the ranker that it is: two towers, or two stages."""

from __future__ import annotations

import numpy as np

from pipelines.model_ranker import ModelRanker
from pipelines.popularity import Popularity
from pipelines.prepare import Prepared
from pipelines.rankers import Ranker
from pipelines.ranking import build_ranking, load_ranking
from pipelines.run import RANKER, Run
from pipelines.second_stage import RankingInputs, TwoStageRanker


def first_stage(run: Run, data: Prepared) -> ModelRanker:
    """The two towers of a run over a dataset's items."""
    return ModelRanker(run.model(data.catalogue), data.window)


def second_stage(run: Run, data: Prepared, first: ModelRanker, own: Prepared | None = None) -> TwoStageRanker | None:
    """The second stage over `first`, if the run has one.

    Args:
        data: Whose items are ranked.
        own: The run's own dataset, whose events count as past popularity; None where `data` is that dataset.
    """
    settings = run.recipe.ranking
    if settings is None:
        return None
    stage = build_ranking(settings, run.vocabulary, first.model.content.width)
    load_ranking(stage, run.folder / RANKER)
    logs = [(data.behaviour, np.arange(len(data.catalogue) + 1))]
    if own is not None and own is not data:
        place = {item: row for row, item in enumerate(data.catalogue.ids, start=1)}
        logs.append((own.behaviour, np.array([0, *(place.get(item, 0) for item in own.catalogue.ids)])))
    inputs = RankingInputs(first, stage.appeal, Popularity.of(logs), data.catalogue.published_at)
    return TwoStageRanker(inputs, stage.tower, max(settings.retrieve, run.recipe.export.top_k))


def trained_ranker(run: Run, data: Prepared, own: Prepared | None = None) -> Ranker:
    """The whole of a run: both stages, or the one that it has."""
    first = first_stage(run, data)
    return second_stage(run, data, first, own) or first
