"""The REST API: TensorFlow Serving's under `/v1`, our own `/healthz`, `/readyz`, `/models`, and metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import orjson
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.errors import Code, ServingError, abridge, invalid
from serving.model_server.http_messages import Request, Response
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
MAX_QUEUED = 1024  # requests in threads at once; more get 429
QUICK_BYTES = 1 << 14  # a request this long may be answered by the loop itself: see `Pace`

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_METHOD = re.compile(_MODEL + r":(predict|classify|regress)", re.IGNORECASE | re.ASCII)
_RESOURCE = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE | re.ASCII)
_CORS = (
    b"access-control-allow-origin: *\r\naccess-control-allow-methods: GET, POST\r\naccess-control-allow-headers: *\r\n"
)
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"


class RestApi:
    """Answers requests: small ones on quick models at once, others in threads, so that the loop stays free.

    A request in a thread that takes longer than `options.rest_timeout_ms` gets 504. Its computation is not
    interrupted. One in the loop gets no 504, however long it takes, and all others wait for it; the loop therefore
    takes only those of signatures that were quick lately, and none of the next thousand after a late one (`Pace`).
    """

    def __init__(
        self, registry: Registry, options: Options, monitor: Monitor | None = None, observer: Observer | None = None
    ) -> None:
        self.draining = False
        self._registry = registry
        self._monitor = monitor
        self._observer = observer
        self._batching = options.enable_batching
        self._check_methods = options.check_signature_methods
        self._headers = _CORS if options.rest_cors else b""
        self._cors = options.rest_cors
        self._timeout = options.rest_timeout_ms / 1000
        threads = options.rest_threads or (BATCHING_THREADS if options.enable_batching else THREADS)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._under_way = 0

    def close(self) -> None:
        """Let the threads go, once no request is under way."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    # What `http_messages.Application` asks for

    @property
    def max_body_bytes(self) -> int:
        return MAX_BODY_BYTES

    def now(self, request: Request) -> Response | None:
        """The answer, or None if a thread should find it."""
        try:
            if request.method == "POST" and (match := _METHOD.fullmatch(request.path)):
                quick = len(request.body) <= QUICK_BYTES and not request.encoding and not self._batching
                if not quick or match[4].lower() != "predict":
                    return None
                answer = self._predict_now(match, request)
                return None if answer is None else self._response(200, answer)
            return self._look_up(request)
        except Exception as error:
            return self._failed(request, error)

    async def later(self, request: Request) -> Response:
        """The answer, found in a thread."""
        self._under_way += 1
        try:
            if self._under_way > MAX_QUEUED:
                raise ServingError(Code.RESOURCE_EXHAUSTED, f"More than {MAX_QUEUED} requests are under way.")
            if request.method == "POST" and (match := _METHOD.fullmatch(request.path)):
                return self._response(200, await self._answer(match, request))
            match = _RESOURCE.fullmatch(request.path)
            assert match is not None
            return self._response(200, await self._in_thread(self._metadata, *_model(match)))
        except Exception as error:
            return self._failed(request, error)
        finally:
            self._under_way -= 1

    def refuse(self, status: int, message: str) -> Response:
        """The answer to what is no request."""
        return self._response(status, write_error(invalid(message)))

    def _response(self, status: int, body: bytes) -> Response:
        return Response(status, body, headers=self._headers)

    def _failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, ServingError):
            return self._response(error.http_status, write_error(error))
        _log.error("%s %s failed.", request.method, request.path, exc_info=error)
        return self._response(500, write_error(ServingError(Code.INTERNAL, "The server failed; its log says why.")))

    # Routes

    def _look_up(self, request: Request) -> Response | None:
        method, path = request.method, request.path
        if method == "GET" and (match := _RESOURCE.fullmatch(path)):
            if match[4]:
                return None
            return self._response(200, _status_body(self._registry.statuses(*_model(match))))
        if self._monitor is not None and method == "GET" and path == self._monitor.path:
            return Response(200, self._monitor.text(), _METRICS, self._headers)
        if method in ("GET", "HEAD") and path in ("/healthz", "/readyz", "/models"):
            return self._response(*self._own(path))
        if method == "OPTIONS" and self._cors:
            return self._response(200, b"")
        if path.startswith("/v1/"):
            raise invalid(f"Malformed request: {method} {abridge(path)}")
        raise ServingError(Code.NOT_FOUND, f"There is nothing at {abridge(path)}.")

    def _predict_now(self, match: re.Match[str], request: Request) -> bytes | None:
        started, code = time.perf_counter(), Code.INTERNAL
        answer = None
        try:
            answer = self._predict_if(*_model(match), request, float("inf"), only_quick=True)
            code = Code.OK
            return answer
        except ServingError as error:
            code = error.code
            raise
        finally:
            if self._observer is not None and (answer is not None or code is not Code.OK):
                self._observer(unquote(match[1]), "Predict", "REST", code, time.perf_counter() - started)

    async def _answer(self, match: re.Match[str], request: Request) -> bytes:
        verb = match[4].lower()
        answer = self._predict if verb == "predict" else self._classify if verb == "classify" else self._regress
        started, code = time.perf_counter(), Code.INTERNAL
        try:
            deadline = time.monotonic() + self._timeout
            answered = await self._in_thread(answer, *_model(match), request, deadline)
            code = Code.OK
            return answered
        except ServingError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = Code.CANCELLED  # the client went away
            raise
        finally:
            if self._observer is not None:
                self._observer(unquote(match[1]), verb.capitalize(), "REST", code, time.perf_counter() - started)

    async def _in_thread(self, function: Callable[..., bytes], *arguments: Any) -> bytes:
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError:
            raise ServingError(
                Code.DEADLINE_EXCEEDED, f"The model took longer than {self._timeout * 1000:.0f} ms."
            ) from None

    def _predict(self, name: str, version: int | None, label: str | None, request: Request, deadline: float) -> bytes:
        answer = self._predict_if(name, version, label, request, deadline, only_quick=False)
        assert answer is not None
        return answer

    def _predict_if(
        self, name: str, version: int | None, label: str | None, request: Request, deadline: float, *, only_quick: bool
    ) -> bytes | None:
        """The answer, or None if only a quick one is wanted and requests like this one are not."""
        started = time.perf_counter()
        asked = parse_object(_plain(request))
        wanted = signature_name(asked)
        with self._registry.lease(name, version, label) as (_, model):
            signature = model.signature(wanted)
            if signature is None:
                missing = wanted or DEFAULT_SIGNATURE
                raise invalid(f'Serving signature name: "{missing}" not found in signature def')
            if only_quick and not signature.pace.quick:
                return None
            if not signature.inputs:
                raise invalid(f"Failed to get input map for signature: {signature.name}")
            well = False
            try:
                form, inputs = read_inputs(asked, signature.inputs)
                answer = write_outputs(model.run(signature, inputs, deadline=deadline), form)
                well = True
                return answer
            finally:
                signature.pace.took(time.perf_counter() - started, well=well)

    def _classify(self, name: str, version: int | None, label: str | None, request: Request, deadline: float) -> bytes:
        spec, given = _examples(name, request)
        with self._registry.lease(name, version, label) as (_, model):
            return write_classified(classify(model, spec, given, check_method=self._check_methods, deadline=deadline))

    def _regress(self, name: str, version: int | None, label: str | None, request: Request, deadline: float) -> bytes:
        spec, given = _examples(name, request)
        with self._registry.lease(name, version, label) as (_, model):
            return write_regressed(regress(model, spec, given, check_method=self._check_methods, deadline=deadline))

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
            {"name": name, "versions": [_status(one) for one in versions]}
            for name, versions in self._registry.known().items()
        ]
        return 200, orjson.dumps({"models": models})


def _examples(name: str, request: Request) -> tuple[ModelSpec, Input]:
    asked = parse_object(_plain(request))
    return ModelSpec(name=name, signature_name=signature_name(asked)), read_input(asked)


def _model(match: re.Match[str]) -> tuple[str, int | None, str | None]:
    version = None
    if digits := match[2]:
        version = int(digits.lstrip("0")[:20] or 0)  # Python refuses thousands of digits with an error of its own
        if version >= 2**63:
            raise invalid(f"Failed to convert version: {abridge(digits)} to numeric.")
    return unquote(match[1]), version, unquote(match[3]) if match[3] else None


def _status(status: VersionStatus) -> Mapping[str, Any]:
    return {
        "version": str(status.version),
        "state": status.state.name,
        "status": {"error_code": status.code.name, "error_message": status.message},
    }


def _status_body(statuses: list[VersionStatus]) -> bytes:
    return orjson.dumps({"model_version_status": [_status(status) for status in statuses]})


class _BodyTooLarge(ServingError):
    """A ServingError, so that it is counted as what it is: the client's fault. TensorFlow has no code for it."""

    @property
    def http_status(self) -> int:
        return 413


def _plain(request: Request) -> bytes:
    return _gunzip(request.body) if request.encoding in (b"gzip", b"x-gzip") else request.body


def _gunzip(body: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise invalid(f"The body is not gzip: {error}") from None
    if len(plain) > MAX_BODY_BYTES:
        raise _BodyTooLarge(Code.INVALID_ARGUMENT, f"The body is larger than {MAX_BODY_BYTES} bytes when decompressed.")
    if not reader.eof:
        raise invalid("The gzip body is cut short.")
    return plain
