"""Golden requests: what is odd is among them, and an answer that differs is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.saved_model
from pipelines import export_gate
from pipelines.artefacts import read_json, sha256_of
from pipelines.errors import BadInput
from pipelines.export_check import ask_in_fresh_process
from pipelines.export_gate import EXTRA, GOLDEN, MANIFEST, WARM_UP
from pipelines.golden import COUNT, TOLERANCE, Answers, golden_requests
from pipelines.prepare import Prepared, prepare_for
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.served import model_server


@pytest.fixture(scope="module")
def data(run_folder: Path) -> Prepared:
    run = Run.open(run_folder)
    return prepare_for(run, run.training_data())


def _requests(data: Prepared, run_folder: Path, **settings: Any) -> list[dict[str, Any]]:
    on_offer = np.arange(len(data.catalogue)) % 5 > 0
    return golden_requests(data, Run.open(run_folder).vocabulary, on_offer, **settings)


def test_what_is_odd_about_requests_is_asked(data: Prepared, run_folder: Path) -> None:
    requests, words = _requests(data, run_folder), Run.open(run_folder).vocabulary
    assert len(requests) == COUNT == 200
    known = set(data.catalogue.ids.tolist())
    lengths = [len(each["history_ids"]) for each in requests]
    assert min(lengths) == 0
    assert max(lengths) > 2 * data.window.length
    assert {""} | set(words.languages) < {each["language"] for each in requests}
    assert {""} | set(words.devices) < {each["device"] for each in requests}
    assert any(each["history_ids"] and not set(each["history_ids"]) & known for each in requests)
    gone = set(data.catalogue.ids[::5].tolist())
    assert any(set(each["history_ids"]) & gone for each in requests)
    assert any(len(set(each["history_ids"])) < len(each["history_ids"]) for each in requests)
    assert {0} < {each["time_seconds"] for each in requests}
    left = [len(known - gone - set(each["exclude_ids"]) - set(each["history_ids"])) for each in requests]
    assert min(left) < 10 < max(left)
    assert json.loads(json.dumps(requests)) == requests


def test_the_seed_decides(data: Prepared, run_folder: Path) -> None:
    assert _requests(data, run_folder) == _requests(data, run_folder)
    assert _requests(data, run_folder) != _requests(data, run_folder, seed=1)


def test_a_version_holds_what_it_was_asked_and_where_it_is_from(model_folder: Path, run_folder: Path) -> None:
    version, run = model_folder / "1", Run.open(run_folder)
    manifest = read_json(version / EXTRA / MANIFEST)
    assert manifest["gate"] == {
        "requests": 200,
        "tolerance": TOLERANCE,
        "agree": ["Python", "SavedModel", "REST", "gRPC"],
    }
    assert manifest["recipe"] == json.loads(run.recipe.model_dump_json())
    assert manifest["data"] == run.training_data().fingerprint() == manifest["trained_on"]["data"]
    assert manifest["metrics"] == run.metrics
    found = {str(path.relative_to(version)): sha256_of(path) for path in version.rglob("*") if path.is_file()}
    assert manifest["files"] == {name: value for name, value in found.items() if name != f"{EXTRA}/{MANIFEST}"}


def test_the_golden_file_is_enough_to_check_a_server(model_folder: Path, tmp_path: Path) -> None:
    golden = read_json(model_folder / "1" / EXTRA / GOLDEN)
    with model_server(model_folder, tmp_path / "log") as served:
        for place in range(0, len(golden["requests"]), 20):
            answer = served.ask_rest(golden["signature"], golden["requests"][place])
            assert answer["ids"] == golden["ids"][place]
            np.testing.assert_allclose(answer["scores"], golden["scores"][place], atol=golden["tolerance"])


def test_the_warm_up_is_what_the_server_takes(model_folder: Path, tmp_path: Path) -> None:
    import grpc
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

    from towers.runtime import tf

    records = list(tf.data.TFRecordDataset(str(model_folder / "1" / EXTRA / WARM_UP)).as_numpy_iterator())
    signatures = set()
    with model_server(model_folder, tmp_path / "log") as served:
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
            for record in records:
                request = PredictionLog.FromString(record).predict_log.request
                signatures.add(request.model_spec.signature_name)
                request.model_spec.name = served.model
                assert PredictionServiceStub(channel).Predict(request, timeout=30).outputs
    assert signatures == {"recommend", "recommend_live", "rank", "embed_users", "embed_items"}


@pytest.mark.parametrize("way", ["Python", "SavedModel", "REST", "gRPC"])
def test_whoever_answers_differently_publishes_nothing(
    way: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of one are changed by a little more than is allowed."""
    if way == "Python":
        real = pipelines.saved_model.python_answers

        def differs(*arguments: Any) -> Answers:
            answers = real(*arguments)
            return replace(answers, scores=answers.scores + 0.5)

        monkeypatch.setattr(pipelines.saved_model, "python_answers", differs)
        way = "SavedModel"
    else:
        agrees = export_gate._agrees

        def differs_there(asked: str, expected: Answers, found: Answers) -> str:
            off = 0.5 if asked == way else 0.0
            return agrees(asked, expected, replace(found, scores=found.scores + off))

        monkeypatch.setattr(export_gate, "_agrees", differs_there)
    with pytest.raises(AssertionError, match=f"golden requests: {way} does not answer like the Python model"):
        export(Run.open(run_folder), tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())


def test_an_op_that_no_stock_server_has_is_refused_by_name(tmp_path: Path) -> None:
    from towers.runtime import tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def answer(self, x: Any) -> dict[str, Any]:
            return {"y": tf.py_function(lambda value: value + 1, [x], tf.float32)}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"recommend": module.answer})
    with pytest.raises(AssertionError, match="stock TensorFlow Serving cannot run: EagerPyFunc"):
        ask_in_fresh_process(tmp_path / "saved", {"recommend/x": np.zeros(1, np.float32)})


SCORES = np.array([[3.0, 2.0, 1.0, 0.0]])
OWN = Answers([["a", "b", "c", ""]], SCORES)


@pytest.mark.parametrize(
    ("ids", "scores", "says"),
    [
        (["a", "b", "c", ""], SCORES, None),
        (["a", "b", "c", ""], SCORES + 2e-4, None),
        (["a", "b", "c", ""], SCORES + 1e-3, "scores differ by 1.00e-03"),
        (["a", "c", "b", ""], SCORES, "'c' at place 2 where 'b' belongs"),
        (["a", "b", "d", ""], SCORES, None),  # level with the last
        (["a", "b", "c", "d"], SCORES, "'d' at place 4 where '' belongs"),
        (["a", "b", "", ""], SCORES, "'' at place 3"),
        (["a", "b", "c", ""], SCORES * np.nan, "not finite"),
        (["a", "b", "c"], SCORES[:, :3], "another shape"),
    ],
)
def test_a_difference_is_told(ids: list[str], scores: np.ndarray, says: str | None) -> None:
    found = OWN.difference(Answers([ids], scores))
    assert (found is None) if says is None else says in (found or "")


def test_level_items_may_stand_in_any_order() -> None:
    level = Answers([["a", "b", "c"]], np.array([[1.0, 1.0 + 1e-6, 0.5]]))
    assert level.difference(Answers([["b", "a", "c"]], level.scores)) is None
    assert level.difference(Answers([["b", "b", "c"]], level.scores)) is not None


def test_a_folder_of_somebody_is_refused_before_the_gate(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is not a folder"):
        export(Run.open(run_folder), tmp_path / "file")
