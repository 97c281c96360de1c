"""Replays a version's recorded requests before it serves, so that no user waits for the first run of the graph."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.inference import classify, multi_inference, predict, regress
from serving.model_server.loaded import LoadedModel

_log = logging.getLogger(__name__)

MAX_RECORDS = 1000
_FRAME_BYTES = 16  # of a record in a TFRecord: its length and two checksums


def warm_up(model: LoadedModel, folder: Path, iterations: int = 1) -> int:
    """Run every request of the version's `assets.extra/tf_serving_warmup_requests`, if there is such a file.

    Args:
        iterations: How often each request runs.

    Returns:
        How many requests the file holds.

    Raises:
        ServingError: The file is not a TFRecord of PredictionLogs, has more than 1,000, or a request fails.
    """
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    if not path.is_file():
        return 0
    started, count, size = time.monotonic(), 0, 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            count += 1
            size += len(record) + _FRAME_BYTES
            if count > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
            log = _parse(record, path)
            for _ in range(iterations):
                _replay(model, log)
    except tf.errors.OpError as error:
        raise ServingError(
            Code.DATA_LOSS, f"{error.message}. Please verify your warmup data in {path} is in TFRecord format."
        ) from None
    except ServingError as error:
        raise ServingError(error.code, f"Warm-up request {count} of {path} failed: {error.message}") from None
    if size != path.stat().st_size:
        # TensorFlow's reader takes a few bytes too many for the end of the file.
        raise ServingError(Code.DATA_LOSS, f"{path} does not end with a whole record. Please verify your warmup data.")
    _log.info("%d warm-up requests of %s took %.1f s.", count, path, time.monotonic() - started)
    return count


def _parse(record: bytes, path: Path) -> PredictionLog:
    try:
        return PredictionLog.FromString(record)
    except DecodeError:
        raise invalid(f"Failed to parse warmup record from {path}") from None


def _replay(model: LoadedModel, log: PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict(model, 0, log.predict_log.request)
    elif kind == "classify_log":
        classify(model, log.classify_log.request.model_spec, log.classify_log.request.input)
    elif kind == "regress_log":
        regress(model, log.regress_log.request.model_spec, log.regress_log.request.input)
    elif kind == "multi_inference_log":
        multi_inference(model, 0, log.multi_inference_log.request)
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
