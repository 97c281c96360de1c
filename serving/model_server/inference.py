"""Requests of the PredictionService to answers, on a model that is at hand: no transport, no choice of version."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.loaded import DEFAULT_SIGNATURE, LoadedModel, Signature
from serving.model_server.tensors import Array, decode, encode

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_INPUT = "inputs"  # the one input of both: serialised tf.Examples
_NEVER = float("inf")
_KIND = {CLASSIFY: "classification", REGRESS: "regression"}


def predict(
    model: LoadedModel,
    version: int,
    request: predict_pb2.PredictRequest,
    *,
    as_content: bool = False,
    deadline: float = _NEVER,
) -> predict_pb2.PredictResponse:
    """Run a signature on the request's tensors.

    Args:
        as_content: Whether numbers come back as `tensor_content` rather than as typed values.
        deadline: See `LoadedModel.run`.

    Raises:
        ServingError: FAILED_PRECONDITION for an unknown signature; see also `LoadedModel.run`.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signature(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    inputs = {alias: decode(proto, alias) for alias, proto in request.inputs.items()}
    outputs = model.run(signature, inputs, request.output_filter, deadline=deadline)
    response = predict_pb2.PredictResponse()
    answering(response.model_spec, request.model_spec, version)
    for alias, array in outputs.items():
        encode(array, response.outputs[alias], as_content=as_content)
    return response


def classify(
    model: LoadedModel,
    spec: model_pb2.ModelSpec,
    given: input_pb2.Input,
    *,
    check_method: bool = False,
    deadline: float = _NEVER,
) -> classification_pb2.ClassificationResult:
    """Classes and scores for each tf.Example.

    Args:
        check_method: Whether the signature must be exported as a classification. TF2 exports every one as predict.
        deadline: See `LoadedModel.run`.

    Raises:
        ServingError: INVALID_ARGUMENT, no examples, an unknown signature, or one that does not classify.
    """
    examples = read_examples(given)
    signature = _signature(model, spec, CLASSIFY, check_method)
    outputs = [alias for alias in ("classes", "scores") if alias in signature.fetches]
    return _classified(
        model.run(signature, {_INPUT: examples}, outputs, api="Classify", deadline=deadline), len(examples)
    )


def regress(
    model: LoadedModel,
    spec: model_pb2.ModelSpec,
    given: input_pb2.Input,
    *,
    check_method: bool = False,
    deadline: float = _NEVER,
) -> regression_pb2.RegressionResult:
    """A number for each tf.Example. Arguments and errors as for `classify`."""
    examples = read_examples(given)
    signature = _signature(model, spec, REGRESS, check_method)
    return _regressed(
        model.run(signature, {_INPUT: examples}, ["outputs"], api="Regress", deadline=deadline), len(examples)
    )


def multi_inference(
    model: LoadedModel,
    version: int,
    request: inference_pb2.MultiInferenceRequest,
    *,
    check_method: bool = False,
    deadline: float = _NEVER,
) -> inference_pb2.MultiInferenceResponse:
    """Several classifications and regressions of the same examples, in one run of the graph.

    Raises:
        ServingError: INVALID_ARGUMENT as for `classify`, for a signature twice, or for signatures with different
            inputs; UNIMPLEMENTED for a method other than classify and regress.
    """
    signatures: dict[str, Signature] = {}
    for task in request.tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in signatures:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if task.method_name not in _KIND:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        signatures[name] = _signature(model, task.model_spec, task.method_name, check_method)
    examples = read_examples(request.input)
    joined = model.joined(tuple(signatures.values()))
    outputs = model.run(joined, {_INPUT: examples}, api="MultiInference", deadline=deadline)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        mine = {alias: outputs[f"{name}/{alias}"] for alias in signatures[name].outputs}
        result = response.results.add()
        answering(result.model_spec, task.model_spec, version)
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(_classified(mine, len(examples)))
        else:
            result.regression_result.CopyFrom(_regressed(mine, len(examples)))
    return response


def one_model(request: inference_pb2.MultiInferenceRequest) -> model_pb2.ModelSpec:
    """The model that all tasks name.

    Raises:
        ServingError: INVALID_ARGUMENT, no task, no name or several names.
    """
    if not request.tasks:
        raise invalid("Inference request is empty.")
    specs = [task.model_spec for task in request.tasks]
    if not all(spec.name for spec in specs):
        raise invalid("Found ModelSpec with an empty model name.")
    if len({spec.name for spec in specs}) > 1:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    return specs[0]


def answering(spec: model_pb2.ModelSpec, asked: model_pb2.ModelSpec, version: int) -> None:
    """Fill in what answered: the name, the version meant and the signature."""
    spec.name = asked.name
    spec.version.value = version
    spec.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def read_examples(given: input_pb2.Input) -> Array:
    """Serialised tf.Examples, one each (B). The context's features are put before each example's own."""
    if given.WhichOneof("kind") == "example_list_with_context":
        listed = given.example_list_with_context
        # Concatenated messages merge, and a map's later entry for a key wins.
        context = listed.context.SerializeToString()
        values = [context + example.SerializeToString() for example in listed.examples]
    else:
        values = [example.SerializeToString() for example in given.example_list.examples]
    if not values:
        raise invalid("Input is empty.")
    examples = np.empty(len(values), dtype=object)
    examples[:] = values
    return examples


def _signature(model: LoadedModel, spec: model_pb2.ModelSpec, method: str, check_method: bool) -> Signature:
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signature(name)
    kind = _KIND[method]
    if signature is None:
        raise invalid(f"No signature was found with the name: {name}")
    if check_method and signature.method != method:
        raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {signature.method}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if _INPUT not in signature.inputs:
        raise ServingError(Code.FAILED_PRECONDITION, f"No {kind} inputs found in SignatureDef: {name}")
    if method == REGRESS:
        if len(signature.outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "outputs" not in signature.fetches:
            raise ServingError(Code.FAILED_PRECONDITION, f"No regression outputs found in SignatureDef: {name}")
    else:
        if len(signature.outputs) not in (1, 2):
            raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
        if not {"classes", "scores"} & signature.fetches.keys():
            raise ServingError(
                Code.FAILED_PRECONDITION,
                'Expected classification signature outputs to contain at least one of "classes" or "scores".',
            )
    return signature


def _classified(outputs: Mapping[str, Array], count: int) -> classification_pb2.ClassificationResult:
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for alias, array, expected in (("classes", classes, np.dtype(object)), ("scores", scores, np.dtype(np.float32))):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if array.dtype != expected:
            kind = "DT_STRING" if alias == "classes" else "DT_FLOAT"
            raise invalid(f"Expected {alias} Tensor of {kind}. Got: {array.dtype}")
        if len(array) != count:
            raise invalid(f"Expected {alias} output batch size of {count}. Got: {len(array)}")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    labels = None if classes is None else [[label.decode("utf-8", "replace") for label in row] for row in classes]
    numbers = None if scores is None else scores.tolist()
    for row in range(count):
        one = result.classifications.add()
        for column in range(len((labels or numbers or [])[row])):
            entry = one.classes.add()
            if labels is not None:
                entry.label = labels[row][column]
            if numbers is not None:
                entry.score = numbers[row][column]
    return result


def _regressed(outputs: Mapping[str, Array], count: int) -> regression_pb2.RegressionResult:
    array = outputs["outputs"]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(array.shape)}"
        )
    if len(array) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT. Got: {array.dtype}")
    result = regression_pb2.RegressionResult()
    for value in array.ravel().tolist():
        result.regressions.add().value = value
    return result
