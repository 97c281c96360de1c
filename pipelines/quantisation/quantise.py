"""Make bundles of an exported version, and refuse those that would recommend something else."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_folder, check_folder, read_json, write_json
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput, Stopped
from pipelines.export_gate import EXTRA, GOLDEN, MANIFEST
from pipelines.golden import Answers
from pipelines.progress import say, stages, track
from pipelines.quantisation import golden
from pipelines.quantisation.bundle import publish, size_of, write_bundle
from pipelines.quantisation.compare import Lists, Refused, agreement, compared, content_kept, embeddings
from pipelines.quantisation.convert import KEPT_FLOAT, ONNX, VARIANTS, convert_all, representative_file
from pipelines.quantisation.facts import EdgeFacts
from pipelines.quantisation.freeze import freeze
from pipelines.quantisation.gate import pass_edge_gate
from pipelines.quantisation.histories import REPRESENTATIVE, Histories, item_inputs, real_histories, spread
from pipelines.quantisation.index import Index, float_rows, int8_rows
from pipelines.quantisation.recommend import Recommendations
from pipelines.quantisation.report import quantise_page, table_lines, table_rows
from pipelines.quantisation.runners import Runner, litert, milliseconds, onnx, tensorflow
from pipelines.result import Result

QUANTISE, REPORT = "quantise.json", "report.html"
HISTORIES, ITEMS = 500, 256
_COMPARED = 32


@dataclass(frozen=True)
class Measure:
    """The float model on real inputs, which every variant is compared with."""

    facts: EdgeFacts
    index: Index
    functions: dict[str, Runner]
    inputs: dict[str, list[dict[str, np.ndarray]]]
    histories: Histories
    lists: Lists
    users: np.ndarray
    items: np.ndarray
    requests: list[dict[str, Any]]
    answers: Answers

    def recommendations(self, parts: dict[str, Runner], embedding: np.ndarray) -> Recommendations:
        ranking = self.facts.ranking
        retrieve = 0 if ranking is None else ranking.retrieve
        return Recommendations(self.index, embedding, parts["user"], parts.get("ranker"), retrieve)


def quantise(
    version: Path | str,
    out: Path | str,
    *,
    variants: Sequence[str] = ("dynamic_range",),
    keep: float = 0.99,
    keep_new: float = 0.95,
    dataset: Dataset | None = None,
    with_onnx: bool = True,
    histories: int = HISTORIES,
    items: int = ITEMS,
    publish_to: Path | str | None = None,
) -> Result:
    """Write a bundle a variant below `out`, ONNX files, and a table of what each variant is worth.

    A bundle is what `serving.edge` serves.

    Every conversion is compared with the function that it was made from. A variant whose outputs are not finite, that
    differs in float32, or that keeps too little of the first ten recommendations is refused: nothing of it is
    written, and the table says why. Recommendations are those for real histories over what was then on offer, by the
    converted towers over items in int8, or in float32 where the variant is. Last, the edge server's own runtime must
    answer the version's golden requests as the model does: a float32 bundle to 1e-4, like the other float paths.

    Args:
        version: `MODELS/NAME/VERSION`, as `belfry export` writes it.
        keep: Least recall@10 against float32.
        keep_new: The same among items that a device embeds itself, by the converted content tower. Items that are as
            near to each other as its error change places there; until the next export it is for those alone.
        dataset: Whose histories are taken; what the model was trained on by default.
        histories, items: How many are looked at, at most.
        publish_to: Where numbered bundles are, of which the one variant becomes the next.
        out: The folder to make: a folder a variant, ONNX files and a page.
        variants: Of float32, float16, dynamic_range and int8.
        with_onnx: Whether to write ONNX files too.

    Raises:
        BadInput: The version, the dataset or a variant cannot be used.
        Stopped: Every variant is refused.

    Example:
        >>> from pipelines import quantise
        >>> least = {"keep": 0.9, "keep_new": 0.9}
        >>> result = quantise("models/news/1", "quantised", **least, with_onnx=False, publish_to="bundles")
        >>> result["published"], [(row["variant"], row["refused"]) for row in result.rows()]
        ('bundles/1', [('dynamic_range', None)])
    """
    version, out = Path(version), Path(out)
    publish_to = None if publish_to is None else Path(publish_to)
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise BadInput(f"--variant is {', '.join(VARIANTS)} or all, not {unknown[0]!r}.")
    if publish_to is not None and len(variants) != 1:
        raise BadInput("--publish takes one variant: name one with --variant.")
    if publish_to is not None and publish_to.exists() and not publish_to.is_dir():
        raise BadInput(f"{publish_to} is not a folder of numbered bundles.")
    replaces = (QUANTISE, REPORT, ONNX, *VARIANTS)
    check_folder(out, replaces=replaces)
    facts = EdgeFacts.read(version)
    manifest = read_json(version / EXTRA / MANIFEST)
    data = dataset or _training_data(version, manifest)
    from towers.runtime import tf

    with stages("quantise", {"loading the version": 1}) as begin:
        begin("loading the version")
        loaded = tf.saved_model.load(str(version))
    parts = {"user": loaded.edge.user, "content": loaded.edge.content}
    if facts.ranking is not None:
        parts["ranker"] = loaded.edge.rank
    index = Index.of(loaded, facts.tags_kept)
    say("taking real histories, and what the float model recommends for them")
    judged, calibrating, catalogue = real_histories(version, manifest, facts, index, data, histories)
    functions = {name: tensorflow(function) for name, function in parts.items()}
    some = item_inputs(loaded, facts, catalogue, spread(len(catalogue), items))
    measure = _measure(version, facts, index, functions, some, judged)
    result: dict[str, Any] = {
        "model": version.parent.name,
        "version": version.name,
        "dataset": data.info.name,
        "part": judged.part,
        "histories": len(judged),
        "items": len(some),
        "keep": keep,
        "keep_new": keep_new,
        "variants": {},
        "published": None,
    }
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(out, replaces=replaces) as draft:
        frozen = Path(scratch) / "frozen"
        frozen.mkdir()
        for name, function in parts.items():
            freeze(function).write(frozen / f"{name}.pb")
        _write_representative(frozen, measure, calibrating, some)
        converted = Path(scratch) / "converted"
        converted.mkdir()
        wanted = [*variants, *([ONNX] if with_onnx else [])]
        say(f"converting to {', '.join(wanted)}")
        with stages("quantise", {f"converting to {', '.join(wanted)}": 1}) as begin:
            begin(f"converting to {', '.join(wanted)}")
            reasons = convert_all(frozen, wanted, converted)
        for variant in track(variants, "variants", len(variants)):
            say(f"{variant}: comparing with float")
            try:
                if why := reasons[variant]:
                    raise Stopped(why)
                about, said = _judge(measure, variant, converted / variant, keep, keep_new)
                kept = {name: value["mean"] for name, value in about["kept"].items()}
                tolerance = golden.tolerance(measure.answers, said)
                bundle = draft / variant
                write_bundle(bundle, version, variant, converted / variant, facts, index, kept, tolerance)
                pass_edge_gate(bundle, variant, measure.requests, measure.answers, said, tolerance)
                about["bytes"] = size_of(bundle)
            except Stopped as refusal:
                shutil.rmtree(draft / variant, ignore_errors=True)
                about = (refusal.about if isinstance(refusal, Refused) else {}) | {"refused": str(refusal)}
                say(f"{variant} is refused: {refusal}")
            result["variants"][variant] = about
        if all(about["refused"] for about in result["variants"].values()):
            all_of_them = "; ".join(f"{name}: {about['refused']}" for name, about in result["variants"].items())
            raise Stopped(f"nothing is written, because every variant is refused: {all_of_them}")
        if with_onnx:
            result[ONNX] = _onnx(measure, converted / ONNX, draft / ONNX, reasons[ONNX])
        write_json(draft / QUANTISE, result)
        (draft / REPORT).write_text(quantise_page(result), encoding="utf-8")
    if publish_to is not None:
        result["published"] = str(publish(out / variants[0], publish_to))
    return Result(result, table_lines, table_rows)


def _training_data(version: Path, manifest: dict[str, Any]) -> Dataset:
    where = manifest["trained_on"]["dataset"]
    try:
        return Dataset.open(where)
    except BadInput:
        raise BadInput(
            f"the dataset that {version} was trained on is no longer at {where}: name one with --data."
        ) from None


def _measure(
    version: Path,
    facts: EdgeFacts,
    index: Index,
    functions: dict[str, Runner],
    some: list[dict[str, np.ndarray]],
    histories: Histories,
) -> Measure:
    retrieve = 0 if facts.ranking is None else facts.ranking.retrieve
    float_ = Recommendations(index, index.embedding, functions["user"], functions.get("ranker"), retrieve)
    requests, expected = golden.golden_of(read_json(version / EXTRA / GOLDEN))
    difference = expected.difference(golden.answers(float_, facts, requests))
    if difference is not None:
        raise Stopped(f"the functions for conversion do not answer like the model that they are of: {difference}.")
    rows = [histories.row(query) for query in track(range(len(histories)), "real histories", len(histories))]
    inputs = {"user": [float_.inputs(row) for row in rows], "content": some}
    users = np.concatenate(
        [functions["user"](each)["embedding"] for each in track(inputs["user"], "embedding users", len(rows))]
    )
    if facts.ranking is not None:
        inputs["ranker"] = []
        for query in range(min(_COMPARED, len(rows))):
            allowed = np.flatnonzero(histories.allowed(query))[-retrieve:]
            inputs["ranker"].append(float_.candidates(rows[query], users[query : query + 1], allowed))
    lists = Lists.of(float_, histories)
    items = embeddings(functions["content"], some)
    return Measure(facts, index, functions, inputs, histories, lists, users, items, requests, expected)


def _write_representative(
    frozen: Path, measure: Measure, calibrating: Histories, some: list[dict[str, np.ndarray]]
) -> None:
    users = measure.recommendations(measure.functions, measure.index.embedding)
    rows = {
        "user": [users.inputs(calibrating.row(query)) for query in range(len(calibrating))],
        "content": some[:: max(1, len(some) // REPRESENTATIVE)][:REPRESENTATIVE],
    }
    for name, inputs in rows.items():
        columns = {column: np.stack([each[column] for each in inputs]) for column in inputs[0]}
        np.savez(representative_file(frozen, name), allow_pickle=False, **columns)


def _agree(measure: Measure, name: str, variant: str, run: Runner) -> dict[str, float]:
    inputs = measure.inputs[name]
    chosen = [inputs[row] for row in spread(len(inputs), _COMPARED)]
    return agreement(name, variant, run, measure.functions[name], chosen)


def _judge(
    measure: Measure, variant: str, converted: Path, keep: float, keep_new: float
) -> tuple[dict[str, Any], Answers]:
    """What a variant is worth, and what it says to golden requests; `Stopped` where it is refused."""
    about: dict[str, Any] = {"refused": None, "parts": {}}
    parts: dict[str, Runner] = {}
    for name in measure.functions:
        path = converted / f"{name}.tflite"
        parts[name] = litert(path)
        exact = "float32" if name in KEPT_FLOAT.get(variant, ()) else variant
        about["parts"][name] = _part(measure, name, exact, path, parts[name])
    embedding = measure.index.embedding
    if variant != "float32":
        embedding = float_rows(*int8_rows(embedding))
    found = measure.recommendations(parts, embedding)
    estimates = compared(measure.lists, Lists.of(found, measure.histories), measure.histories.target)
    about["kept"] = {name: estimate.as_dict() for name, estimate in estimates.items()}
    anew = embeddings(parts["content"], measure.inputs["content"])
    about["new_items"] = {"recall@10": content_kept(measure.users, measure.items, anew)}
    for what, value, least in (
        ("the first ten recommendations", about["kept"]["recall@10"]["mean"], keep),
        ("the first ten among items that a device embeds itself", about["new_items"]["recall@10"], keep_new),
    ):
        if value < least:
            raise Refused(f"it keeps {value:.2%} of {what}, and {least:.2%} are asked for.", about)
    return about, golden.answers(found, measure.facts, measure.requests)


def _onnx(measure: Measure, converted: Path, folder: Path, reason: str | None) -> dict[str, Any]:
    """Write the parts as ONNX files, all or none, and say what each is."""
    say("onnx: comparing with float")
    about: dict[str, Any] = {"refused": None, "parts": {}}
    try:
        if reason:
            raise Stopped(reason)
        for name in measure.functions:
            path = converted / f"{name}.onnx"
            about["parts"][name] = _part(measure, name, ONNX, path, onnx(path))
        shutil.copytree(converted, folder)
    except Stopped as refusal:
        say(f"onnx is refused: {refusal}")
        about["refused"] = str(refusal)
    return about


def _part(measure: Measure, name: str, precision: str, path: Path, run: Runner) -> dict[str, Any]:
    return {
        "precision": "float32" if precision == ONNX else precision,
        "bytes": path.stat().st_size,
        **_agree(measure, name, precision, run),
        "milliseconds": milliseconds(run, measure.inputs[name]),
    }
