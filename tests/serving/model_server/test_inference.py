"""Classify, Regress and MultiInference by gRPC and REST, on TF1 and TF2 SavedModels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving.model_server import ModelServer, Options

Serve = Callable[[str], Any]
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def example(x: list[float] | None = None, word: str = "") -> tf.train.Example:
    made = tf.train.Example()
    if x is not None:
        made.features.feature["x"].float_list.value.extend(x)
    if word:
        made.features.feature["word"].bytes_list.value.append(word.encode())
    return made


def given(*examples: tf.train.Example, context: tf.train.Example | None = None) -> input_pb2.Input:
    made = input_pb2.Input()
    if context is None:
        made.example_list.examples.extend(examples)
    else:
        made.example_list_with_context.examples.extend(examples)
        made.example_list_with_context.context.CopyFrom(context)
    return made


def classified(client: Any, signature: str = "", *examples: Any, **context: Any) -> Any:
    request = classification_pb2.ClassificationRequest(input=given(*examples, **context))
    request.model_spec.name, request.model_spec.signature_name = client.name, signature
    return client.prediction.Classify(request, timeout=20)


def regressed(client: Any, signature: str, *examples: Any, **context: Any) -> Any:
    request = regression_pb2.RegressionRequest(input=given(*examples, **context))
    request.model_spec.name, request.model_spec.signature_name = client.name, signature
    return client.prediction.Regress(request, timeout=20)


TWO = (example([1, 2, 3], "cat"), example([0, 0, 1], "dog"))


def test_classify_gives_labels_and_scores(serve: Serve) -> None:
    response = classified(serve("tf1"), "", *TWO)
    pairs = [[(one.label, one.score) for one in each.classes] for each in response.result.classifications]
    assert pairs == [[("sum", 14.0), ("word", 1.0)], [("sum", 3.0), ("word", -1.0)]]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("tf1", 1, "serving_default")


def test_labels_alone_and_scores_alone(serve: Serve) -> None:
    labels = classified(serve("tf1"), "labels", *TWO).result.classifications
    assert [(one.label, one.score) for one in labels[0].classes] == [("sum", 0.0), ("word", 0.0)]
    scores = classified(serve("scorer"), "", *TWO).result.classifications
    assert [[(one.label, one.score) for one in each.classes] for each in scores] == [
        [("", 2.0), ("", 4.0), ("", 6.0)],
        [("", 0.0), ("", 0.0), ("", 2.0)],
    ]


@pytest.mark.parametrize(
    ("source", "signature", "expected"), [("tf1", "regress", [15, 2]), ("scorer", "number", [6, 1])]
)
def test_regress_gives_a_number_each(source: str, signature: str, expected: list[float], serve: Serve) -> None:
    response = regressed(serve(source), signature, *TWO)
    assert [one.value for one in response.result.regressions] == expected


def test_a_context_is_part_of_every_example_which_may_differ(serve: Serve) -> None:
    context = example([1, 0, 0], "cat")
    response = regressed(serve("tf1"), "regress", example(), example([0, 1, 0]), example(word="sat"), context=context)
    assert [one.value for one in response.result.regressions] == [1 + 1, 2 + 1, 1 + 2]


def multi(client: Any, *tasks: tuple[str, str], name: str | None = None, examples: Any = TWO) -> Any:
    request = inference_pb2.MultiInferenceRequest(input=given(*examples))
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = client.name if name is None else name
        task.model_spec.signature_name = signature
    return client.prediction.MultiInference(request, timeout=20)


def test_multi_inference_answers_every_task(serve: Serve) -> None:
    response = multi(serve("tf1"), ("", CLASSIFY), ("regress", REGRESS))
    first, second = response.results
    assert [one.score for one in first.classification_result.classifications[0].classes] == [14.0, 1.0]
    assert [one.value for one in second.regression_result.regressions] == [15.0, 2.0]
    assert (first.model_spec.signature_name, second.model_spec.signature_name) == ("serving_default", "regress")
    assert second.model_spec.version.value == 1


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code().name, raised.value.details() or ""


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        (lambda c: classified(c), "INVALID_ARGUMENT", "Input is empty"),
        (lambda c: classified(c, "s", *TWO), "INVALID_ARGUMENT", "No signature was found with the name: s"),
        (lambda c: classified(c, "raw", *TWO), "FAILED_PRECONDITION", "No classification inputs found"),
        (lambda c: classified(c, "regress", *TWO), "FAILED_PRECONDITION", "at least one of"),
        (lambda c: regressed(c, "wide", *TWO), "INVALID_ARGUMENT", "[batch_size, 1] but got [2, 2]"),
        (lambda c: regressed(c, "", *TWO), "INVALID_ARGUMENT", "Expected one output Tensor"),
        (lambda c: classified(c, "", example(word="cat")), "INVALID_ARGUMENT", "Feature: x"),
        (lambda c: multi(c), "INVALID_ARGUMENT", "request is empty"),
        (lambda c: multi(c, ("", CLASSIFY), name=""), "INVALID_ARGUMENT", "empty model name"),
        (lambda c: multi(c, ("", CLASSIFY), ("serving_default", CLASSIFY)), "INVALID_ARGUMENT", "Duplicate evaluation"),
        (lambda c: multi(c, ("raw", "tensorflow/serving/predict")), "UNIMPLEMENTED", "Unsupported signature method"),
        (lambda c: multi(c, ("", CLASSIFY), examples=()), "INVALID_ARGUMENT", "Input is empty"),
    ],
)
def test_errors(call: Callable[[Any], Any], code: str, words: str, serve: Serve) -> None:
    status, details = refusal(lambda: call(serve("tf1")))
    assert status == code
    assert words in details


def test_the_method_is_looked_at_only_when_asked_to(tmp_path: Path, publish: Any, connect: Any) -> None:
    publish(tmp_path, 1, "scorer")
    with ModelServer(Options(model_base_path=tmp_path, check_signature_methods=True)) as server:
        code, words = refusal(lambda: classified(connect(server), "", *TWO))
    assert code == "INVALID_ARGUMENT"
    assert words.endswith("method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict")


def post(client: Any, verb: str, body: Any) -> tuple[int, Any]:
    answer = client.http.post(f"/v1/models/{client.name}:{verb}", json=body)
    return answer.status_code, answer.json()


def test_rest_classifies_and_regresses(serve: Serve) -> None:
    examples = [{"x": [1.0, 2.0, 3.0], "word": "cat"}, {"x": [0.0, 0.0, 0.1], "word": {"b64": "c2F0"}}]
    assert post(serve("tf1"), "classify", {"examples": examples}) == (
        200,
        {"results": [[["sum", 14.0], ["word", 1.0]], [["sum", 0.3], ["word", 2.0]]]},
    )
    body = {"signature_name": "regress", "context": {"x": [1.0, 0.0, 0.0]}, "examples": [{}, {"word": "sat"}]}
    assert post(serve("tf1"), "regress", body) == (200, {"results": [0.0, 3.0]})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "key 'examples' is expected"),
        ({"examples": {}}, "to be an list/array"),
        ({"examples": []}, "is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": [1.0, 2]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": None}]}, "unexpected JSON type: Null"),
        ({"examples": [{"x": [[1.0]]}]}, "unexpected JSON type: Array"),
        ({"examples": [{"x": 2**63}]}, "has uint64 element"),
        ({"examples": [{"x": 1e300}]}, "without loss of precision"),
        ({"examples": [{"word": "cat"}]}, "Feature: x"),
        ({"examples": [{"x": [1.0]}], "signature_name": "s"}, "No signature was found with the name: s"),
    ],
)
def test_errors_by_rest(body: Any, words: str, serve: Serve) -> None:
    status, answer = post(serve("tf1"), "classify", body)
    assert status == 400
    assert words in answer["error"]


def test_a_signature_name_that_is_no_text(serve: Serve) -> None:
    """Half of a surrogate pair cannot be written into a message; it was an error of the server."""
    text = '{"signature_name": "\\ud800", "examples": [{}], "instances": [1]}'
    for verb in ("classify", "predict"):
        answer = serve("tf1").http.post(f"/v1/models/tf1:{verb}", content=text)
        assert (answer.status_code, answer.json()["error"]) == (400, "'signature_name' holds bytes that are not UTF-8.")


def test_a_tf1_model_predicts_too(serve: Serve) -> None:
    outputs = serve("tf1").predict({"x": np.array([[1, 2, 3]], np.float32)}, "raw")
    assert outputs["total"].tolist() == [14.0]
    raw = np.array([TWO[0].SerializeToString()], object)
    assert serve("tf1").predict({"inputs": raw}, "serving_default")["scores"].tolist() == [[14.0, 1.0]]


def test_what_simple_save_wrote_is_served(tmp_path: Path, connect: Any) -> None:
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None])
        half = v1.get_variable("half", initializer=0.5)
        y = x * half + 2.0
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": y})
    with ModelServer(Options(model_base_path=tmp_path)) as server:
        assert connect(server).rows([1.0, 2.0, 5.0]) == [2.5, 3.0, 4.5]
