"""How gRPC is reached: TLS, Unix sockets, the health service, limits and deadlines."""

from __future__ import annotations

import datetime
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.model_server import ModelServer, Options, ServingError

Start = Callable[..., ModelServer]


@pytest.fixture
def start(tmp_path: Path, publish: Callable[..., Path]) -> Iterator[Start]:
    publish(tmp_path / "m", 1, "numeric1")
    servers: list[ModelServer] = []

    def run(**options: Any) -> ModelServer:
        server = ModelServer(Options(model_base_path=tmp_path / "m", **options))
        server.start()
        servers.append(server)
        return server

    yield run
    for server in servers:
        server.stop()


def ask(channel: grpc.Channel, timeout: float | None = 20, signature: str = "", **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    request.model_spec.signature_name = signature
    for alias, value in (inputs or {"x": np.array([[1, 2, 3]], np.float32)}).items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout)


def fourteen(channel: grpc.Channel) -> bool:
    return list(ask(channel).outputs["y"].float_val) == [14.0]


class Authority:
    """Signs certificates for this machine."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key, authority=True)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, authority: bool = False) -> x509.Certificate:
        def called(who: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])

        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def pair(self, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        return (
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            self._sign(name, key).public_bytes(serialization.Encoding.PEM),
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def ssl_config(folder: Path, **fields: bytes | bool) -> Path:
    def value(field: bytes | bool) -> str:
        if isinstance(field, bool):
            return str(field).lower()
        return '"' + field.decode().replace("\n", "\\n") + '"'

    file = folder / "ssl.config"
    file.write_text("\n".join(f"{name}: {value(field)}" for name, field in fields.items()))
    return file


@pytest.mark.parametrize("verify", [False, True])
def test_tls_and_certificates_of_clients(verify: bool, tmp_path: Path, start: Start) -> None:
    authority = Authority()
    key, certificate = authority.pair("localhost")
    config = ssl_config(
        tmp_path, server_key=key, server_cert=certificate, custom_ca=authority.pem, client_verify=verify
    )
    server = start(ssl_config_file=config)
    target = f"localhost:{server.grpc_port}"

    def refused(channel: grpc.Channel) -> bool:
        with channel, pytest.raises(grpc.RpcError) as refusal:
            ask(channel, timeout=10)
        return refusal.value.code() is grpc.StatusCode.UNAVAILABLE

    assert refused(grpc.insecure_channel(target))
    anonymous = grpc.ssl_channel_credentials(authority.pem)
    known = grpc.ssl_channel_credentials(authority.pem, *authority.pair("client"))
    stranger = grpc.ssl_channel_credentials(authority.pem, *Authority().pair("client"))
    with grpc.secure_channel(target, known) as channel:
        assert fourteen(channel)
    if verify:
        assert refused(grpc.secure_channel(target, anonymous))
        assert refused(grpc.secure_channel(target, stranger))
    else:
        with grpc.secure_channel(target, anonymous) as channel:
            assert fourteen(channel)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('server_key: "k"', "server_key and server_cert are needed"),
        ('server_key: "k" server_cert: "c" client_verify: true', "client_verify needs custom_ca"),
        ("nonsense", "Invalid protobuf file"),
    ],
)
def test_a_tls_file_that_cannot_be_used(text: str, words: str, tmp_path: Path, start: Start) -> None:
    (tmp_path / "ssl.config").write_text(text)
    with pytest.raises(ServingError, match=words):
        start(ssl_config_file=tmp_path / "ssl.config")


def test_a_key_that_is_none_does_not_start(tmp_path: Path, start: Start) -> None:
    file = ssl_config(tmp_path, server_key=b"no key", server_cert=b"no certificate")
    with pytest.raises(OSError, match="cannot listen"):
        start(ssl_config_file=file)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
@pytest.mark.parametrize("port", [0, None])
def test_a_unix_socket_answers_too_or_alone(port: int | None, tmp_path: Path, start: Start) -> None:
    path = tmp_path / "grpc.socket"
    server = start(grpc_socket_path=path, grpc_port=port, rest_port=None)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        assert fourteen(channel)
    assert (server.grpc_target is None) == (port is None)
    if server.grpc_target:
        with grpc.insecure_channel(server.grpc_target) as channel:
            assert fourteen(channel)


def test_a_socket_that_cannot_be_made_is_an_error(tmp_path: Path, start: Start) -> None:
    with pytest.raises(OSError, match="cannot listen on unix:"):
        start(grpc_socket_path=tmp_path / "absent" / "grpc.socket")


def test_the_health_service_only_with_its_flag(start: Start) -> None:
    for enabled in (True, False):
        with grpc.insecure_channel(start(enable_grpc_health=enabled).grpc_target or "") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            if enabled:
                for name in ("", "tensorflow.serving.PredictionService"):
                    assert check(health_pb2.HealthCheckRequest(service=name)).status == 1
            else:
                with pytest.raises(grpc.RpcError) as refusal:
                    check(health_pb2.HealthCheckRequest())
                assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_channel_arguments_reach_the_server(start: Start) -> None:
    server = start(grpc_channel_arguments=(("grpc.max_receive_message_length", 100),))
    with grpc.insecure_channel(server.grpc_target or "") as channel, pytest.raises(grpc.RpcError) as refusal:
        ask(channel, x=np.zeros((50, 3), np.float32))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_numbers_as_tensor_content_when_asked_for(start: Start) -> None:
    with grpc.insecure_channel(start(serialize_as_tensor_content=True).grpc_target or "") as channel:
        proto = ask(channel).outputs["y"]
        assert proto.tensor_content == np.float32(14).tobytes()
        assert tf.make_ndarray(proto).tolist() == [[14.0]]


def test_a_deadline_reaches_the_batch_by_grpc_and_rest(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.model_server.batching import BatchScheduler

    left: list[float] = []
    run = BatchScheduler.run

    def seen(self: Any, key: Any, compute: Any, feeds: Any, deadline: float) -> Any:
        left.append(deadline - time.monotonic())
        return run(self, key, compute, feeds, deadline)

    monkeypatch.setattr(BatchScheduler, "run", seen)
    server = start(enable_batching=True, rest_port=0, rest_timeout_ms=40_000)
    with grpc.insecure_channel(server.grpc_target or "") as channel:
        ask(channel, timeout=30)
        ask(channel, timeout=None)
    url = f"{server.rest_url}/v1/models/default:predict"
    assert httpx.post(url, json={"instances": [[1, 2, 3]]}).status_code == 200
    assert 20 < left[0] < 31
    assert left[1] > 1e6
    assert 30 < left[2] <= 40


def test_a_request_whose_deadline_has_passed_is_not_computed(
    start: Start, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    from serving.model_server.loaded import LoadedModel

    entered, open_gate, runs = threading.Event(), threading.Event(), []
    run = LoadedModel.run

    def gated(self: Any, signature: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        runs.append(inputs["x"].tolist())
        entered.set()
        assert open_gate.wait(20)
        return run(self, signature, inputs, *rest, **more)

    monkeypatch.setattr(LoadedModel, "run", gated)
    server = start(grpc_max_threads=1, rest_port=None)
    with grpc.insecure_channel(server.grpc_target or "") as channel:
        first = threading.Thread(target=fourteen, args=(channel,))
        first.start()
        assert entered.wait(20)
        with pytest.raises(grpc.RpcError) as late:
            ask(channel, timeout=0.1, x=np.full((1, 3), 7, np.float32))
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        open_gate.set()
        first.join(20)
        assert fourteen(channel)
    assert runs == [[[1, 2, 3]]] * 2
