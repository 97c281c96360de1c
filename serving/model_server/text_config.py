"""The text-format files of monitoring, TLS and batching: tensorflow-serving-api does not ship their messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from serving.model_server.errors import abridge, invalid

_PACKAGE = "tensorflow.serving"
_KINDS = {"bool": 8, "string": 9, "int64": 3}  # FieldDescriptorProto.Type
_INT, _TEXT = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
# Fields in the order, and thus with the numbers, of TensorFlow Serving's .proto files.
_MESSAGES: dict[str, dict[str, str]] = {
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": f".{_PACKAGE}.PrometheusConfig"},
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
    "BatchingParameters": {
        "max_batch_size": _INT,
        "batch_timeout_micros": _INT,
        "max_enqueued_batches": _INT,
        "num_batch_threads": _INT,
        "thread_pool_name": _TEXT,
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
    },
}


def _pool() -> descriptor_pool.DescriptorPool:
    # A pool of its own, in case a later tensorflow-serving-api brings these messages.
    file = descriptor_pb2.FileDescriptorProto(name="model_server_files.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            label = 3 if kind.startswith("repeated ") else 1
            kind = kind.removeprefix("repeated ")
            if kind in _KINDS:
                message.field.add(name=field, number=number, label=label, type=_KINDS[kind])
            else:
                message.field.add(name=field, number=number, label=label, type=11, type_name=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


def read_text_config(path: Path, name: str) -> Any:
    """Read a text-format `MonitoringConfig`, `SSLConfig` or `BatchingParameters`.

    Raises:
        ServingError: INVALID_ARGUMENT, the file cannot be read or is no such message.
    """
    message = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))()
    try:
        return text_format.Parse(path.read_text("utf-8"), message, descriptor_pool=_POOL)
    except OSError as error:
        raise invalid(f"Cannot read {path}: {error.strerror}.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}': {abridge(str(error))}") from None
