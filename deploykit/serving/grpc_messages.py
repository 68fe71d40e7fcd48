"""The messages of the protocol's gRPC service, built in a pool of their own.

Two packages of one process that register `inference.*` in protobuf's common pool end it with "duplicate symbol". Here nothing is
registered there: the names on the wire are the protocol's, and tritonclient may be imported before or after. Names and numbers are
those of `open_inference_grpc.proto`; what Triton adds (configuration, statistics, repository, stream) is as its clients read it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

# Message: field type number, ... "*" repeated, "?" one of several, "map" from texts, "A.B" is B inside of A.
MESSAGES = """
ServerLiveRequest:
ServerLiveResponse: live bool 1
ServerReadyRequest:
ServerReadyResponse: ready bool 1
ModelReadyRequest: name string 1, version string 2
ModelReadyResponse: ready bool 1
ServerMetadataRequest:
ServerMetadataResponse: name string 1, version string 2, extensions *string 3
ModelMetadataRequest: name string 1, version string 2
ModelMetadataResponse: name string 1, versions *string 2, platform string 3, inputs *ModelMetadataResponse.TensorMetadata 4, outputs *ModelMetadataResponse.TensorMetadata 5
ModelMetadataResponse.TensorMetadata: name string 1, datatype string 2, shape *int64 3
InferParameter: bool_param ?bool 1, int64_param ?int64 2, string_param ?string 3, double_param ?double 4, uint64_param ?uint64 5
InferTensorContents: bool_contents *bool 1, int_contents *int32 2, int64_contents *int64 3, uint_contents *uint32 4, uint64_contents *uint64 5, fp32_contents *float 6, fp64_contents *double 7, bytes_contents *bytes 8
ModelInferRequest: model_name string 1, model_version string 2, id string 3, parameters map:InferParameter 4, inputs *ModelInferRequest.InferInputTensor 5, outputs *ModelInferRequest.InferRequestedOutputTensor 6, raw_input_contents *bytes 7
ModelInferRequest.InferInputTensor: name string 1, datatype string 2, shape *int64 3, parameters map:InferParameter 4, contents InferTensorContents 5
ModelInferRequest.InferRequestedOutputTensor: name string 1, parameters map:InferParameter 2
ModelInferResponse: model_name string 1, model_version string 2, id string 3, parameters map:InferParameter 4, outputs *ModelInferResponse.InferOutputTensor 5, raw_output_contents *bytes 6
ModelInferResponse.InferOutputTensor: name string 1, datatype string 2, shape *int64 3, parameters map:InferParameter 4, contents InferTensorContents 5
ModelStreamInferResponse: error_message string 1, infer_response ModelInferResponse 2
ModelConfigRequest: name string 1, version string 2
ModelConfigResponse: config ModelConfig 1
ModelStatisticsRequest: name string 1, version string 2
ModelStatisticsResponse: model_stats *ModelStatistics 1
StatisticDuration: count uint64 1, ns uint64 2
InferStatistics: success StatisticDuration 1, fail StatisticDuration 2, queue StatisticDuration 3, compute_input StatisticDuration 4, compute_infer StatisticDuration 5, compute_output StatisticDuration 6, cache_hit StatisticDuration 7, cache_miss StatisticDuration 8
InferBatchStatistics: batch_size uint64 1, compute_input StatisticDuration 2, compute_infer StatisticDuration 3, compute_output StatisticDuration 4
ModelStatistics: name string 1, version string 2, last_inference uint64 3, inference_count uint64 4, execution_count uint64 5, inference_stats InferStatistics 6, batch_stats *InferBatchStatistics 7
RepositoryIndexRequest: repository_name string 1, ready bool 2
RepositoryIndexResponse: models *RepositoryIndexResponse.ModelIndex 1
RepositoryIndexResponse.ModelIndex: name string 1, version string 2, state string 3, reason string 4
ModelRepositoryParameter: bool_param ?bool 1, int64_param ?int64 2, string_param ?string 3, bytes_param ?bytes 4
RepositoryModelLoadRequest: repository_name string 1, model_name string 2, parameters map:ModelRepositoryParameter 3
RepositoryModelLoadResponse:
RepositoryModelUnloadRequest: repository_name string 1, model_name string 2, parameters map:ModelRepositoryParameter 3
RepositoryModelUnloadResponse:
ModelConfig: name string 1, platform string 2, version_policy ModelVersionPolicy 3, max_batch_size int32 4, input *ModelInput 5, output *ModelOutput 6, instance_group *ModelInstanceGroup 7, default_model_filename string 8, dynamic_batching ?ModelDynamicBatching 11, model_warmup *ModelWarmup 16, backend string 17
ModelInput: name string 1, data_type =DataType 2, dims *int64 4, reshape ModelTensorReshape 5
ModelOutput: name string 1, data_type =DataType 2, dims *int64 3, label_filename string 4, reshape ModelTensorReshape 5
ModelTensorReshape: shape *int64 1
ModelVersionPolicy: latest ?ModelVersionPolicy.Latest 1
ModelVersionPolicy.Latest: num_versions uint32 1
ModelDynamicBatching: preferred_batch_size *int32 1, max_queue_delay_microseconds uint64 2
ModelWarmup: name string 1, batch_size uint32 2, inputs map:ModelWarmup.Input 3
ModelWarmup.Input: data_type =DataType 1, dims *int64 2, zero_data ?bool 3
ModelInstanceGroup: name string 1, count int32 2, kind =Kind 4
"""  # noqa: E501

ENUMS = {
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16",
        "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    ),
    "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
}  # fmt: skip
HEALTH = """
HealthCheckRequest: service string 1
HealthCheckResponse: status int32 1
"""
_SCALARS = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}
_MESSAGE, _ENUM = 11, 14


@cache
def message(name: str) -> Any:
    """The class of a message, such as "ModelInferRequest"."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def health(name: str) -> Any:
    """The same of gRPC's own health service; a status is a number: 1 serving, 2 not serving, 3 unknown."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"grpc.health.v1.{name}"))


@cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for package, text, enums in ((PACKAGE, MESSAGES, ENUMS), ("grpc.health.v1", HEALTH, {})):
        file = descriptor_pb2.FileDescriptorProto(name=f"deploykit/{package}.proto", package=package, syntax="proto3")
        for name, values in enums.items():
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        made: dict[str, Any] = {}
        for line in text.strip().splitlines():
            name, _, fields = line.partition(":")
            outer, _, inner = name.partition(".")
            made[name] = made[outer].nested_type.add(name=inner) if inner else file.message_type.add(name=name)
            for field in filter(None, fields.strip().split(", ")):
                _add(made[name], f".{package}.{name}", *field.split(" "))
        pool.Add(file)
    return pool


def _add(owner: Any, path: str, name: str, kind: str, number: str) -> None:
    """One field. `path`: the full name of the message."""
    field = owner.field.add(name=name, number=int(number), label=1)
    package = path.rpartition(".")[0] if path.count(".") == 2 else f".{PACKAGE}"
    if kind.startswith("map:"):
        words = "".join(word.capitalize() for word in name.split("_"))
        entry = owner.nested_type.add(name=f"{words}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=9)
        entry.field.add(name="value", number=2, label=1, type=_MESSAGE, type_name=f".{PACKAGE}.{kind[4:]}")
        field.label, field.type, field.type_name = 3, _MESSAGE, f"{path}.{words}Entry"
        return
    if kind.startswith("*"):
        field.label, kind = 3, kind[1:]
    if kind.startswith("?"):
        if not owner.oneof_decl:
            owner.oneof_decl.add(name="choice")
        field.oneof_index, kind = 0, kind[1:]
    if kind.startswith("="):
        field.type, field.type_name = _ENUM, f"{package}.{kind[1:]}"
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _MESSAGE, f".{PACKAGE}.{kind}"
