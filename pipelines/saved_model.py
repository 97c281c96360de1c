"""Publish a run as the next numbered version of a served model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_folder, write_json
from pipelines.data.dataset import Dataset
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.export_check import check
from pipelines.export_gate import EXTRA, pass_gate, questions_of, write_extra
from pipelines.fingerprint import training_fingerprint
from pipelines.golden import golden_requests, python_answers
from pipelines.image_vectors import load_image_encoder
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare_for
from pipelines.progress import say, stages
from pipelines.quantisation.facts import EDGE, add_edge
from pipelines.recipe.model import IndexKind
from pipelines.run import Run
from pipelines.second_stage import TwoStageRanker
from pipelines.trained import first_stage, second_stage
from pipelines.vocabulary import TAGS
from serving.monitoring.fingerprint import IN_VERSION

# How long each takes beside the others, on the newsroom of `belfry demo`.
_STAGES = {
    "building the graph": 4,
    "saving": 4,
    "golden requests": 2,
    "asking a fresh process": 5,
    "asking the model server": 5,
    "fingerprint of the training data": 1,
}


def export(run: Run, to: Path | str, dataset: Dataset | None = None, *, index: IndexKind | None = None) -> Path:
    """Write the next version under `to` and return its folder.

    The file is loaded again by a fresh process that knows neither Keras nor Belfry, and its answers to real histories
    are compared with the Python model's; a difference above `export_check.TOLERANCE` publishes nothing. Nor does one in
    the golden requests (`pipelines.golden`), which are asked of the model server too. They are kept in the version's
    `assets.extra`, with their answers, requests that warm a server up, what `belfry quantise` needs beside the graph,
    the fingerprint that `belfry monitor` compares traffic with, and a manifest of where the version is from.

    Args:
        to: The model's folder, `MODELS/NAME`; versions are its numbered subfolders.
        dataset: Whose items are recommended; the run's own by default.
        index: Instead of the recipe's. With `scann` the answers are approximate: the exact index's first ten must be
            found by the share `export.least_recall`, and only a server that has the package's ops can load the version.

    Raises:
        BadInput: `to` is a file, there is no item to recommend, or scann is asked for and not installed.

    Example:
        >>> from pipelines import Run, export
        >>> version = export(Run.open("run"), "models/news")
        >>> version.name, (version / "saved_model.pb").is_file()
        ('1', True)
    """
    to = Path(to)
    if to.exists() and not to.is_dir():
        raise BadInput(f"{to} is not a folder: give a model's folder such as models/news.")
    approximate = (index or run.recipe.export.index) == "scann"
    if approximate and importlib.util.find_spec("scann") is None:
        raise BadInput("scann is not installed: `pip install 'belfry[scann]'`, or export with the exact index.")
    needs = ("scann",) if approximate else ()
    data = dataset or run.training_data()
    prepared = prepare_for(run, data)
    catalogue = prepared.catalogue
    if not len(catalogue):
        raise BadInput(f"{data.folder} has no item to recommend.")
    first = first_stage(run, prepared)
    second = second_stage(run, prepared, first)
    on_offer = prepared.on_offer_now()
    if not on_offer.any():
        raise BadInput(f"{data.folder} has no item on offer: all are removed or not yet published.")
    with stages(f"export of {to.name}", _STAGES) as begin:
        begin("building the graph")
        module = recommender(run, prepared, first, second, on_offer, approximate=approximate)
        edge = add_edge(run, module)
        version = to / str(max(versions(to), default=0) + 1)
        from towers.runtime import tf

        with atomic_folder(version) as draft:
            begin("saving")
            tf.saved_model.save(module, str(draft), signatures=module.signatures())
            begin("golden requests")
            requests = golden_requests(prepared, run.vocabulary, on_offer)
            asked = (prepared, first, second, run.vocabulary, on_offer, module.top_k)
            expected = python_answers(requests, *asked)
            count = len(requests)
            say(f"comparing the saved model and the model server with the Python model, on {count} golden requests")
            begin("asking a fresh process")
            answers = check(draft, *asked, questions_of(requests), needs)
            least_recall = run.recipe.export.least_recall if approximate else None
            begin("asking the model server")
            expected, ways = pass_gate(draft, requests, expected, answers, least_recall)
            (draft / EXTRA).mkdir()
            write_json(draft / EXTRA / EDGE, edge.model_dump(mode="json"))
            begin("fingerprint of the training data")
            known = training_fingerprint(
                run, data, prepared, first, second, on_offer, model=to.name, version=int(version.name)
            )
            if known is not None:
                (draft / IN_VERSION).write_text(known.dump(), encoding="utf-8")
            write_extra(draft, run, requests, expected, ways, data.fingerprint(), first.items.shape[1], needs)
    return version


def versions(folder: Path) -> list[int]:
    """The version numbers in a model's folder."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal())


def recommender(
    run: Run,
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    on_offer: np.ndarray,
    *,
    approximate: bool = False,
) -> Any:
    """The `towers.recommender.Recommender` of a run; `on_offer` (N,) bool is what it recommends of the catalogue."""
    from towers.recommender import Recommender

    text, image = run.recipe.features.text, run.recipe.features.image
    model = first.model
    encoder = model.text_top.encoder.value if model.text_top else None if text is None else load_encoder(text)
    return Recommender(
        model.content,
        model.behaviour,
        encoder,
        image_encoder=model.image_encoder or (None if image is None else load_image_encoder(image, None)),
        fields="joined" if text is None else text.fields,
        item_ids=list(data.catalogue.ids),
        embeddings=first.items,
        on_offer=on_offer,
        items=run.vocabulary.items,
        categories=run.vocabulary.categories,
        tags=run.vocabulary.tags,
        tags_kept=TAGS,
        languages=run.vocabulary.languages,
        devices=run.vocabulary.devices,
        history=run.recipe.features.history,
        top_k=run.recipe.export.top_k,
        ranker=None if second is None else _served_ranker(second, data),
        approximate=approximate,
    )


def _served_ranker(second: TwoStageRanker, data: Prepared) -> Any:
    from towers.served_ranker import ServedRanker

    inputs, item = second.inputs, np.arange(len(data.catalogue) + 1)
    end = np.full(len(item), data.end)
    published = np.r_[0, data.catalogue.published_at]
    return ServedRanker(
        second.tower,
        inputs.appeal,
        category=inputs.table.category.numpy(),
        tags=inputs.table.tags.numpy(),
        appeal=inputs.table.appeal.numpy(),
        clicks=inputs.popularity.clicks(item, end),
        click_rate=inputs.popularity.click_rate(item, end),
        published_at=np.where(published > np.iinfo(np.int64).min, published, 0),
        retrieve=second.retrieve,
    )
