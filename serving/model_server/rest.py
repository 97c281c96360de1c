"""The REST API as an ASGI application: TensorFlow Serving's under `/v1`, our own `/healthz`, `/readyz`, `/models`."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias
from urllib.parse import unquote

import orjson
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.inference import classify, regress
from serving.model_server.json_examples import read_input, write_classified, write_regressed
from serving.model_server.json_requests import read_inputs, signature_name
from serving.model_server.json_responses import write_error, write_outputs
from serving.model_server.json_text import parse_object
from serving.model_server.loaded import DEFAULT_SIGNATURE
from serving.model_server.monitoring import Monitor
from serving.model_server.options import Options
from serving.model_server.registry import Registry
from serving.model_server.request_log import Observer
from serving.model_server.versions import VersionStatus

_log = logging.getLogger(__name__)

THREADS = 8
BATCHING_THREADS = 64  # requests of one batch wait for one another
MAX_BODY_BYTES = 1 << 28  # also after decompression
MAX_QUEUED = 1024  # requests at once; more get 429

_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"*"),
]
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_METHOD = re.compile(_MODEL + r":(predict|classify|regress)", re.IGNORECASE | re.ASCII)
_RESOURCE = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE | re.ASCII)


class RestApi:
    """Answers one request after the other; models run in threads, so that the loop stays free.

    A request that takes longer than `options.rest_timeout_ms` gets 504. Its computation is not interrupted.
    """

    def __init__(
        self, registry: Registry, options: Options, monitor: Monitor | None = None, observer: Observer | None = None
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._observer = observer
        self._check_methods = options.check_signature_methods
        self._cors = options.rest_cors
        self._timeout = options.rest_timeout_ms / 1000
        threads = options.rest_threads or (BATCHING_THREADS if options.enable_batching else THREADS)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._under_way = 0
        self.draining = False

    def close(self) -> None:
        """Let the threads go, once no request is under way."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode("latin-1")
        self._under_way += 1
        try:
            if self._under_way > MAX_QUEUED:
                raise ServingError(Code.RESOURCE_EXHAUSTED, f"More than {MAX_QUEUED} requests are under way.")
            status, body = await self._route(scope["method"], path, scope, receive)
        except ServingError as error:
            status, body = error.http_status, write_error(error)
        except _BodyTooLarge as error:
            status, body = 413, write_error(invalid(str(error)))
        except _Gone:
            return
        except Exception:
            _log.exception("%s %s failed.", scope["method"], path)
            status, body = 500, write_error(ServingError(Code.INTERNAL, "The server failed; its log says why."))
        finally:
            self._under_way -= 1
        text = self._monitor is not None and path == self._monitor.path
        headers = [
            (b"content-type", _METRICS if text and status == 200 else b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if self._cors:
            headers.extend(_CORS)
        if status == 413:
            headers.append((b"connection", b"close"))  # the rest of the body is not waited for
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _route(self, method: str, path: str, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        if method == "POST" and (match := _METHOD.fullmatch(path)):
            name, version, label = _model(match)
            verb = match[4].lower()
            body, gzipped = await _read(receive, scope["headers"])
            return 200, await self._answer(verb, name, version, label, body, gzipped)
        if method == "GET" and (match := _RESOURCE.fullmatch(path)):
            name, version, label = _model(match)
            if match[4]:
                return 200, await self._in_thread(self._metadata, name, version, label)
            return 200, _status_body(self._registry.statuses(name, version, label))
        if self._monitor is not None and method == "GET" and path == self._monitor.path:
            return 200, self._monitor.text()
        if method in ("GET", "HEAD") and path in ("/healthz", "/readyz", "/models"):
            return self._own(path)
        if method == "OPTIONS" and self._cors:
            return 200, b""
        if path.startswith("/v1/"):
            raise invalid(f"Malformed request: {method} {path}")
        raise ServingError(Code.NOT_FOUND, f"There is nothing at {path}.")

    async def _answer(
        self, verb: str, name: str, version: int | None, label: str | None, body: bytes, gzipped: bool
    ) -> bytes:
        answer = self._predict if verb == "predict" else self._classify if verb == "classify" else self._regress
        started, code = time.perf_counter(), Code.INTERNAL
        try:
            answered = await self._in_thread(answer, name, version, label, body, gzipped)
            code = Code.OK
            return answered
        except ServingError as error:
            code = error.code
            raise
        finally:
            if self._observer is not None:
                self._observer(name, verb.capitalize(), "REST", code, time.perf_counter() - started)

    async def _in_thread(self, function: Callable[..., bytes], *arguments: Any) -> bytes:
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError:
            raise ServingError(
                Code.DEADLINE_EXCEEDED, f"The model took longer than {self._timeout * 1000:.0f} ms."
            ) from None

    def _predict(self, name: str, version: int | None, label: str | None, body: bytes, gzipped: bool) -> bytes:
        request = parse_object(_gunzip(body) if gzipped else body)
        wanted = signature_name(request)
        with self._registry.lease(name, version, label) as (_, model):
            signature = model.signature(wanted)
            if signature is None:
                missing = wanted or DEFAULT_SIGNATURE
                raise invalid(f'Serving signature name: "{missing}" not found in signature def')
            if not signature.inputs:
                raise invalid(f"Failed to get input map for signature: {signature.name}")
            form, inputs = read_inputs(request, signature.inputs)
            outputs = model.run(signature, inputs)
        return write_outputs(outputs, form)

    def _classify(self, name: str, version: int | None, label: str | None, body: bytes, gzipped: bool) -> bytes:
        spec, given = _examples(name, body, gzipped)
        with self._registry.lease(name, version, label) as (_, model):
            return write_classified(classify(model, spec, given, check_method=self._check_methods))

    def _regress(self, name: str, version: int | None, label: str | None, body: bytes, gzipped: bool) -> bytes:
        spec, given = _examples(name, body, gzipped)
        with self._registry.lease(name, version, label) as (_, model):
            return write_regressed(regress(model, spec, given, check_method=self._check_methods))

    def _metadata(self, name: str, version: int | None, label: str | None) -> bytes:
        with self._registry.lease(name, version, label) as (number, model):
            described = MessageToDict(
                model.describe(), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        return orjson.dumps(
            {
                "model_spec": {"name": name, "signature_name": "", "version": str(number)},
                "metadata": {"signature_def": described},
            }
        )

    def _own(self, path: str) -> tuple[int, bytes]:
        if path == "/healthz":
            return 200, b'{"status":"ok"}'
        if path == "/readyz":
            ready = self._registry.ready and not self.draining
            return (200, b'{"status":"ready"}') if ready else (503, b'{"status":"not ready"}')
        models = [
            {"name": name, "versions": [_status(one) for one in self._registry.known(name)]}
            for name in self._registry.names
        ]
        return 200, orjson.dumps({"models": models})


def _examples(name: str, body: bytes, gzipped: bool) -> tuple[ModelSpec, Input]:
    request = parse_object(_gunzip(body) if gzipped else body)
    return ModelSpec(name=name, signature_name=signature_name(request)), read_input(request)


def _model(match: re.Match[str]) -> tuple[str, int | None, str | None]:
    version = int(match[2]) if match[2] else None
    if version is not None and version >= 2**63:
        raise invalid(f"Failed to convert version: {match[2]} to numeric.")
    return unquote(match[1]), version, unquote(match[3]) if match[3] else None


def _status(status: VersionStatus) -> Mapping[str, Any]:
    return {
        "version": str(status.version),
        "state": status.state.name,
        "status": {"error_code": status.code.name, "error_message": status.message},
    }


def _status_body(statuses: list[VersionStatus]) -> bytes:
    return orjson.dumps({"model_version_status": [_status(status) for status in statuses]})


class _BodyTooLarge(Exception):
    pass


class _Gone(Exception):
    """The client went away before it had sent its request."""


async def _read(receive: Receive, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bool]:
    gzipped = False
    for name, value in headers:
        if name == b"content-length" and int(value) > MAX_BODY_BYTES:
            raise _BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
        if name == b"content-encoding":
            gzipped = value.strip().lower() in (b"gzip", b"x-gzip")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), gzipped


def _gunzip(body: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise invalid(f"The body is not gzip: {error}") from None
    if len(plain) > MAX_BODY_BYTES:
        raise _BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes when decompressed.")
    if not reader.eof:
        raise invalid("The gzip body is cut short.")
    return plain
