"""The gate of an export: the same golden requests, answered wherever the model will answer."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import sha256_of, write_json
from pipelines.export_check import no_live_items
from pipelines.golden import TOLERANCE, Answers, answers_of
from pipelines.progress import say
from pipelines.run import WEIGHTS, Run
from pipelines.served import as_batch, model_server, one_row, padded

# Where a SavedModel keeps what is not of the graph; TF Serving reads the warm-up there.
EXTRA = "assets.extra"
GOLDEN, MANIFEST, WARM_UP = "golden.json", "manifest.json", "tf_serving_warmup_requests"
FORMAT = 1
_ALONE, _TOGETHER = 20, 30
_WARM_UP_BATCH = 8
_SERVED_BY = ("grpc", "httptools", "tensorflow_serving")


def questions_of(requests: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The requests as `pipelines/reload.py` takes them."""
    return {
        f"recommend@{number}/{name}": values
        for number, batch in enumerate(_batches(requests))
        for name, values in as_batch(batch).items()
    }


def pass_gate(
    saved: Path,
    requests: Sequence[dict[str, Any]],
    expected: Answers,
    fresh: dict[str, np.ndarray],
    least_recall: float | None = None,
) -> tuple[Answers, list[str]]:
    """Whether the saved model in a fresh process, and the model server by REST and by gRPC, answer as expected.

    Some requests are asked one by one, the others padded and in batches.

    Args:
        fresh: What the process said to `questions_of`.
        least_recall: For an approximate index, the share of the exact first ten that it must find.

    Returns:
        The answers that every server must give, which are `expected` unless the index is approximate; and who was
        asked, and agrees.

    Raises:
        AssertionError: One of them differs from `expected` by more than `golden.TOLERANCE`; the message says which.
    """
    batches = _batches(requests)
    said = [{name: fresh[f"recommend@{number}/{name}"] for name in ("ids", "scores")} for number in range(len(batches))]
    found = answers_of(_rows(said))
    if least_recall is not None:
        recall = expected.recall(found)
        say(f"the index finds {recall:.1%} of the exact first ten")
        if recall < least_recall:
            raise AssertionError(
                f"the index finds {recall:.1%} of the exact first ten, and {least_recall:.1%} are asked for"
            )
        expected = found
    ways = ["Python", _agrees("SavedModel", expected, found)]
    if not all(importlib.util.find_spec(name) for name in _SERVED_BY):
        say("REST and gRPC are not asked: `pip install 'belfry[serve]'` brings the model server")
        return expected, ways
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        (model / "1").symlink_to(saved.resolve(), target_is_directory=True)
        with model_server(model, Path(folder) / "log") as served:
            by_rest = [row for batch in batches for row in served.ask_rest_rows("recommend", batch)]
            by_grpc = [served.ask_grpc("recommend", as_batch(batch)) for batch in batches]
    ways.append(_agrees("REST", expected, answers_of(by_rest)))
    return expected, [*ways, _agrees("gRPC", expected, answers_of(_rows(by_grpc)))]


def _batches(requests: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """In order: a few requests by themselves, as they are, then the others together."""
    alone = [[each] for each in requests[:_ALONE]]
    starts = range(_ALONE, len(requests), _TOGETHER)
    return alone + [padded(requests[start : start + _TOGETHER]) for start in starts]


def _rows(batches: Sequence[dict[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for row in range(len(batch["ids"])):
            yield {name: values[row] for name, values in batch.items()}


def _agrees(way: str, expected: Answers, found: Answers) -> str:
    difference = expected.difference(found)
    if difference is not None:
        raise AssertionError(f"golden requests: {way} does not answer like the Python model: {difference}")
    return way


def write_extra(
    saved: Path,
    run: Run,
    requests: Sequence[dict[str, Any]],
    expected: Answers,
    ways: Sequence[str],
    data: str,
    width: int,
    needs: Sequence[str] = (),
) -> None:
    """Add the golden requests with their answers, the warm-up, and last the manifest with everybody's checksum.

    Args:
        data: Fingerprint of the dataset whose items are in the index.
        width: D, of its embeddings.
        needs: Packages whose ops a server must have to load the version; a stock TensorFlow Serving has none of them.
    """
    extra = saved / EXTRA
    extra.mkdir(exist_ok=True)
    write_json(
        extra / GOLDEN,
        {
            "signature": "recommend",
            "tolerance": TOLERANCE,
            "requests": list(requests),
            "ids": expected.ids,
            "scores": expected.scores.tolist(),
        },
    )
    _write_warm_up(extra / WARM_UP, requests, expected, width)
    files = sorted(path for path in saved.rglob("*") if path.is_file())
    write_json(
        extra / MANIFEST,
        {
            "format": FORMAT,
            "needs": list(needs),
            "recipe": run.recipe.model_dump(mode="json"),
            "weights": sha256_of(run.folder / WEIGHTS),
            "run": str(run.folder.resolve()),
            "trained_on": run.origin.model_dump(),
            "data": data,
            "metrics": run.metrics,
            "gate": {"requests": len(requests), "tolerance": TOLERANCE, "agree": list(ways)},
            "files": {str(path.relative_to(saved)): sha256_of(path) for path in files},
        },
    )


def _write_warm_up(path: Path, requests: Sequence[dict[str, Any]], expected: Answers, width: int) -> None:
    """Requests that a server replays before a version is available, so that no user waits for the first run."""
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

    from towers.runtime import tf

    def logged(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
        request = PredictRequest()
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return PredictionLog(predict_log=PredictLog(request=request)).SerializeToString()

    with tf.io.TFRecordWriter(str(path)) as writer:
        for request, ids in zip(requests[:_WARM_UP_BATCH], expected.ids, strict=False):
            user = {name: value for name, value in one_row(request).items() if name != "exclude_ids"}
            writer.write(logged("recommend", one_row(request)))
            writer.write(logged("recommend_live", one_row(request) | no_live_items(1, width)))
            writer.write(logged("embed_users", user))
            writer.write(logged("rank", user | {"candidate_ids": np.array([ids], object)}))
        text = {name: np.array(["storm closes the harbour"], object) for name in ("title", "body")}
        known = {name: np.array([""], object) for name in ("item_id", "language", "category", "image")}
        writer.write(logged("embed_items", {**text, **known, "tags": np.array([[""]], object)}))
