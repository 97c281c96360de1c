"""TensorFlow Serving's messages, without TensorFlow.

The generated modules of tensorflow-serving-api import all of TensorFlow (3 s, 500 MB), because TensorProto lives in its
package. On the wire a message is its fields' numbers and kinds and no names, so that the few fields needed are declared
here; what is not declared is passed over when read. They are in a pool of their own: in the shared one they would
collide with the official ones. A test compares every number and kind with those.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "belfry.serving"
# A line a message, as in a .proto file; `*` is repeated, `map` is a map from string.
_MESSAGES = """
Dim: size int64 1, name string 2
Shape: dim *Dim 2, unknown_rank bool 3
Tensor: dtype int32 1, tensor_shape Shape 2, tensor_content bytes 4, float_val *float 5, double_val *double 6, \
int_val *int32 7, string_val *bytes 8, int64_val *int64 10, bool_val *bool 11, half_val *int32 13, \
uint32_val *uint32 16, uint64_val *uint64 17
Int64Value: value int64 1
Any: type_url string 1, value bytes 2
ModelSpec: name string 1, version Int64Value 2, signature_name string 3, version_label string 4
PredictRequest: model_spec ModelSpec 1, inputs map<Tensor> 2, output_filter *string 3
PredictResponse: outputs map<Tensor> 1, model_spec ModelSpec 2
TensorInfo: name string 1, dtype int32 2, tensor_shape Shape 3
SignatureDef: inputs map<TensorInfo> 1, outputs map<TensorInfo> 2, method_name string 3
SignatureDefMap: signature_def map<SignatureDef> 1
GetModelMetadataRequest: model_spec ModelSpec 1, metadata_field *string 2
GetModelMetadataResponse: model_spec ModelSpec 1, metadata map<Any> 2
GetModelStatusRequest: model_spec ModelSpec 1
Status: error_code int32 1, error_message string 2
ModelVersionStatus: version int64 1, state int32 2, status Status 3
GetModelStatusResponse: model_version_status *ModelVersionStatus 1
"""
_Field = descriptor_pb2.FieldDescriptorProto


def _fill(field: Any, kind: str, name: str, number: int) -> None:
    field.name, field.number = name, number
    field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind[0].isupper() or "." in kind:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")


def _declare(file: Any, line: str) -> None:
    message_name, _, fields = line.partition(":")
    message = file.message_type.add(name=message_name)
    for text in fields.split(","):
        name, kind, number = text.split()
        if kind.startswith("map<"):
            entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
            entry = message.nested_type.add(name=entry_name)
            entry.options.map_entry = True
            _fill(entry.field.add(), "string", "key", 1)
            _fill(entry.field.add(), kind[4:-1], "value", 2)
            kind = f"*{message_name}.{entry_name}"
        _fill(message.field.add(), kind, name, int(number))


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="belfry/serving.proto", package=_PACKAGE, syntax="proto3")
    lines = _MESSAGES.strip().splitlines()
    for line in lines:
        _declare(file, line)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    names = [line.partition(":")[0] for line in lines]
    found = {name: pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in names}  # type: ignore[no-untyped-call]
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


MESSAGES = _classes()
Tensor = MESSAGES["Tensor"]
PredictRequest = MESSAGES["PredictRequest"]
PredictResponse = MESSAGES["PredictResponse"]
SignatureDefMap = MESSAGES["SignatureDefMap"]
GetModelMetadataRequest = MESSAGES["GetModelMetadataRequest"]
GetModelMetadataResponse = MESSAGES["GetModelMetadataResponse"]
GetModelStatusRequest = MESSAGES["GetModelStatusRequest"]
GetModelStatusResponse = MESSAGES["GetModelStatusResponse"]
