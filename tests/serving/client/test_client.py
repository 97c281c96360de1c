"""One client over three transports, against a running model server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import client as package
from serving.client import AsyncClient, BadCall, Client, DeadlineExceeded, NotServed, Unavailable
from serving.client.messages import MESSAGES
from serving.model_server import ModelServer, Options

HISTORY = ("age_seconds", "dwell_seconds", "scroll_depth")


def request(history: list[list[str]]) -> dict[str, Any]:
    rows, width = len(history), len(history[0])
    return {
        "history_ids": history,
        **{f"history_{name}": np.zeros((rows, width), np.float32) for name in HISTORY},
        "language": ["en"] * rows,
        "device": ["mobile"] * rows,
        "time_seconds": np.full(rows, 1_767_258_000),
    }


def address(server: ModelServer, transport: str) -> Any:
    return {"rest": server.rest_url, "grpc": f"grpc://{server.grpc_target}", "in process": server}[transport]


@pytest.fixture(params=["rest", "grpc", "in process"])
def client(toy_server: ModelServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(address(toy_server, request.param)) as opened:
        yield opened


def test_a_prediction(client: Client) -> None:
    answer = client.predict(
        "feed", request([["i00", "i04"], ["i01", ""]]) | {"exclude_ids": [["i08"], [""]]}, signature="recommend"
    )
    assert answer.version == 1
    ids, scores = answer.outputs["ids"], answer.outputs["scores"]
    assert ids.shape == scores.shape == (2, 20)
    assert ids.dtype == object
    assert scores.dtype == np.float32
    assert ids[0, 0] == b"i36"
    assert b"i08" not in ids[0]
    assert b"i00" not in ids[0]
    assert ids[1, 0] == b"i37"
    assert (np.diff(scores) <= 0).all()


def test_all_transports_say_the_same(toy_server: ModelServer) -> None:
    inputs = request([["i02", "i03", "i17"]]) | {"exclude_ids": [["", "grün"]]}
    found = []
    for transport in ("rest", "grpc", "in process"):
        with Client(address(toy_server, transport)) as client:
            found.append(client.predict("feed", inputs, signature="recommend"))
            assert client.signatures("feed") == client.signatures("feed", version=1)
            found[-1] = (found[-1], client.signatures("feed"), client.versions("feed"))
    for answer, signatures, versions in found:
        assert signatures == found[0][1]
        assert versions == found[0][2]
        np.testing.assert_array_equal(answer.outputs["ids"], found[0][0].outputs["ids"])
        np.testing.assert_allclose(answer.outputs["scores"], found[0][0].outputs["scores"], rtol=1e-6)
    assert found[0][1]["embed_items"].outputs["embedding"].shape == (None, 8)
    assert found[0][1]["recommend"].inputs["time_seconds"].dtype == "int64"


def test_a_signature_of_one_output_and_chosen_outputs(client: Client) -> None:
    answer = client.predict("feed", request([["i00"]]), signature="embed_users")
    assert answer.outputs["embedding"].shape == (1, 8)
    inputs = request([["i00"]]) | {"exclude_ids": [[""]]}
    assert client.predict("feed", inputs, signature="recommend", outputs=["ids"]).outputs.keys() == {"ids"}


def test_what_is_wrong_says_so(client: Client) -> None:
    good = request([["i00"]])
    for model, inputs, more, error in (
        ("other", good, {}, NotServed),
        ("feed", good, {"version": 9}, NotServed),
        ("feed", good, {"label": "canary"}, BadCall),
        ("feed", good, {"signature": "nothing"}, BadCall),
        ("feed", {}, {}, BadCall),
        ("feed", good | {"history_ids": [["a", "b"], ["c"]]}, {}, BadCall),
        ("feed", good | {"language": [None]}, {}, BadCall),
    ):
        with pytest.raises(error):
            client.predict(model, inputs, **{"signature": "embed_users", **more})


@pytest.mark.parametrize("transport", ["rest", "grpc", "in process"])
def test_an_event_loop(toy_server: ModelServer, transport: str) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(address(toy_server, transport)) as client:
            rows = [request([[f"i{number:02}"]]) for number in range(8)]
            return await asyncio.gather(*(client.predict("feed", each, signature="embed_users") for each in rows))

    found = asyncio.run(ask())
    assert len(found) == 8
    assert len({each.outputs["embedding"].tobytes() for each in found}) == 8


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_server_that_comes_up_late_is_waited_for(export_toy: Callable[[bool], Path], transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {f"{transport}_port": port, "model_name": "feed", "model_base_path": export_toy(True).parent}
    server = ModelServer(Options(**options))  # type: ignore[arg-type]
    starting = threading.Thread(target=server.start)
    scheme = "grpc" if transport == "grpc" else "http"
    try:
        with Client(f"{scheme}://127.0.0.1:{port}", retry=False) as client, pytest.raises(Unavailable):
            client.versions("feed", timeout=5)
        starting.start()
        with Client(f"{scheme}://127.0.0.1:{port}") as client:
            assert client.predict("feed", request([["i00"]]), signature="embed_users", timeout=60).version == 1
    finally:
        starting.join()
        server.stop()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_hangs_costs_the_deadline(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with Client(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}") as client:
            before = time.monotonic()
            with pytest.raises((DeadlineExceeded, Unavailable)):
                client.predict("feed", request([["i00"]]), version=1, timeout=0.2)
            assert time.monotonic() - before >= 0.15


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_grpc_calls_are_spread_over_the_addresses_of_a_name(export_toy: Callable[[bool], Path], kind: Any) -> None:
    """And go on with those that are left."""
    path = export_toy(True).parent
    servers = [
        ModelServer(Options(model_name=name, model_base_path=path, rest_port=None)) for name in ("feed", "other")
    ]
    for server in servers:
        server.start()
    targets = ",".join(server.grpc_target for server in servers)

    async def ask(client: Any, times: int) -> list[str]:
        found = []
        for _ in range(times):
            try:
                told = client.versions("feed")
                found.append("feed" if (await told if kind is AsyncClient else told) else "")
            except NotServed:
                found.append("other")
        return found

    async def check() -> None:
        client = kind(f"grpc://ipv4:{targets}", timeout=20.0)
        try:
            deadline = time.monotonic() + 20
            while set(await ask(client, 1)) | set(await ask(client, 1)) != {"feed", "other"}:
                assert time.monotonic() < deadline, "one of two addresses gets everything"
            assert (await ask(client, 10)).count("feed") == 5
            servers[1].stop()
            assert set(await ask(client, 10)) == {"feed"}
        finally:
            await client.close() if kind is AsyncClient else client.close()

    try:
        asyncio.run(check())
    finally:
        for server in servers:
            server.stop()


def test_a_server_that_trickles_costs_the_deadline() -> None:
    """Each byte comes in time, the answer never."""

    def trickle(mute: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = mute.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)

    async def ask(port: int) -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}", retry=False) as client:
            with pytest.raises(DeadlineExceeded):
                await asyncio.wait_for(client.versions("feed", timeout=0.3), 10)

    with socket.create_server(("127.0.0.1", 0)) as mute:
        sender = threading.Thread(target=trickle, args=(mute,))
        sender.start()
        asyncio.run(ask(mute.getsockname()[1]))
    sender.join(10)


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="grpc://host:port"):
        Client("127.0.0.1:8500")


def test_rest_and_grpc_need_no_tensorflow() -> None:
    code = """
import sys
from serving.client import Client
import serving.client.rest_transport, serving.client.grpc_transport
assert "tensorflow" not in sys.modules and "tensorflow_serving" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_messages_agree_with_the_official_ones() -> None:
    from google.protobuf.wrappers_pb2 import Int64Value
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    pairs = {
        "Tensor": TensorProto,
        "Int64Value": Int64Value,
        "PredictRequest": predict_pb2.PredictRequest,
        "PredictResponse": predict_pb2.PredictResponse,
        "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
        "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
        "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
        "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
        "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    }
    compared = set()

    def compare(ours: Any, theirs: Any) -> None:
        if ours.full_name in compared:
            return
        compared.add(ours.full_name)
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            enum = other.type == other.TYPE_ENUM  # on the wire an enum is an int32
            assert (field.number, field.is_repeated) == (other.number, other.is_repeated), field.full_name
            assert field.type == (other.TYPE_INT32 if enum else other.type), field.full_name
            if field.message_type is not None:
                compare(field.message_type, other.message_type)

    for name, official in pairs.items():
        compare(MESSAGES[name].DESCRIPTOR, official.DESCRIPTOR)
    assert {each.DESCRIPTOR.full_name for each in MESSAGES.values()} <= compared


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "bool", "uint64"]
)
def test_tensors_are_what_tensorflow_reads_and_writes(dtype: str) -> None:
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    from serving.client.messages import Tensor
    from serving.client.tensors import from_tensor, to_tensor

    array = np.array([[0, 1, 3], [5, 7, 1]]).astype(dtype)
    ours = Tensor()
    to_tensor(array, ours)
    np.testing.assert_array_equal(tf.make_ndarray(TensorProto.FromString(ours.SerializeToString())), array)
    for theirs in (tf.make_tensor_proto(array), tf.make_tensor_proto(np.full((2, 2), 1, dtype))):
        found = from_tensor(Tensor.FromString(theirs.SerializeToString()))
        np.testing.assert_array_equal(found, tf.make_ndarray(theirs))
        assert found.dtype == np.dtype(dtype)


def test_the_public_names() -> None:
    assert set(package.__all__) == {name for name in vars(package) if name[0].isupper()}
