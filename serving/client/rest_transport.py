"""Calls by TensorFlow Serving's REST API, without TensorFlow or gRPC."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import numpy as np
import orjson

from serving.client.calls import INITIALISER, Answer, Prediction, SignatureSpec, Steps, Target, TensorSpec, VersionState
from serving.client.errors import BadCall, NotServed, ServerFailed, error_of, http_error
from serving.client.tensors import Array

_KNOWN_SECONDS = 1.0  # how long the newest version is taken for the newest; a swap shows itself by 404 before that
_SIGNATURES_KEPT = 64


class _Step(NamedTuple):
    method: str
    path: str
    body: bytes | None = None


class RestTransport:
    """A server at `http://host:port`.

    An answer in JSON says neither which version computed it nor of which type its numbers are. So the newest version's
    number is asked for first, and then that version, whose signatures say the types; both are remembered.
    A string output that is not UTF-8 arrives with U+FFFD in its place, unless its name ends in `_bytes`.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client: httpx.Client | None = None
        self._async_client: httpx.AsyncClient | None = None
        self._newest: dict[Target, tuple[int, float]] = {}
        self._signatures: dict[Target, dict[str, SignatureSpec]] = {}

    def predict(self, call: Prediction) -> Steps[Answer]:
        known = call.target.version is not None or call.target in self._newest
        version = yield from self._version(call.target)
        try:
            return (yield from self._predict(call, version))
        except NotServed:
            if not known:
                raise
            # The newest version changed since it was asked for.
            self._newest.pop(call.target, None)
            self._signatures.pop(Target(call.target.model, version), None)
            return (yield from self._predict(call, (yield from self._version(call.target))))

    def _predict(self, call: Prediction, version: int) -> Steps[Answer]:
        target = Target(call.target.model, version)
        if target not in self._signatures:
            if len(self._signatures) >= _SIGNATURES_KEPT:
                self._signatures.clear()
            self._signatures[target] = yield from self.signatures(target)
        spec = self._signatures[target].get(call.signature)
        if spec is None:
            raise BadCall("FAILED_PRECONDITION", f"Serving signature name: {call.signature!r} not found.")
        body = _write(call, spec)
        content = yield _Step("POST", f"{_path(target)}:predict", body)
        return Answer(_read(content, spec, call.outputs), version)

    def signatures(self, target: Target) -> Steps[dict[str, SignatureSpec]]:
        content = yield _Step("GET", f"{_path(target)}/metadata")
        described = _loads(content)["metadata"]["signature_def"]["signature_def"]
        return {
            name: SignatureSpec(_specs(each.get("inputs", {})), _specs(each.get("outputs", {})))
            for name, each in described.items()
            if name != INITIALISER
        }

    def resolve(self, target: Target) -> Steps[int]:
        content = yield _Step("GET", f"{_path(target)}/metadata")
        return int(_loads(content)["model_spec"]["version"])

    def versions(self, target: Target) -> Steps[list[VersionState]]:
        content = yield _Step("GET", _path(target))
        return [
            VersionState(int(each["version"]), each["state"], each.get("status", {}).get("error_message", ""))
            for each in _loads(content).get("model_version_status", [])
        ]

    def _version(self, target: Target) -> Steps[int]:
        if target.version is not None:
            return target.version
        version, until = self._newest.get(target, (0, 0.0))
        if time.monotonic() < until:
            return version
        found = yield from self.versions(target)
        available = [each.version for each in found if each.state == "AVAILABLE"]
        if not available:
            raise NotServed("NOT_FOUND", f"No version of {target.model} is available.")
        self._newest[target] = max(available), time.monotonic() + _KNOWN_SECONDS
        return max(available)

    def send(self, step: _Step, timeout: float) -> bytes:
        if self._client is None:
            self._client = httpx.Client(base_url=self._url, trust_env=False)
        try:
            return _content(self._client.request(step.method, step.path, content=step.body, timeout=timeout))
        except httpx.HTTPError as error:
            raise _error(error) from None

    async def send_async(self, step: _Step, timeout: float) -> bytes:
        if self._async_client is None:
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            self._async_client = httpx.AsyncClient(base_url=self._url, limits=limits, trust_env=False)
        try:
            # httpx's time is that of each piece of an answer, not of all.
            async with asyncio.timeout(timeout):
                answer = await self._async_client.request(step.method, step.path, content=step.body, timeout=timeout)
        except httpx.HTTPError as error:
            raise _error(error) from None
        except TimeoutError:
            raise _error(httpx.ReadTimeout("")) from None
        return _content(answer)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def close_async(self) -> None:
        if self._async_client is not None:
            await self._async_client.aclose()
            self._async_client = None


def _path(target: Target) -> str:
    path = f"/v1/models/{quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return path if target.label is None else f"{path}/labels/{quote(target.label, safe='')}"


def _write(call: Prediction, spec: SignatureSpec) -> bytes:
    missing = sorted(spec.inputs.keys() ^ call.inputs.keys())
    if missing:
        raise BadCall("INVALID_ARGUMENT", f"{missing[0]!r} is not given, or is no input of {call.signature}.")
    finite = True
    columns = {}
    for name, array in call.inputs.items():
        finite = finite and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))
        columns[name] = _texts(array) if array.dtype.kind == "O" else array.tolist()
    body = {"signature_name": call.signature, "inputs": columns}
    # Bare NaN and Infinity are TensorFlow Serving's, not JSON's.
    return orjson.dumps(body) if finite else json.dumps(body).encode()


def _texts(array: Array) -> Any:
    found = np.empty(array.size, object)
    for place, each in enumerate(array.ravel().tolist()):
        try:
            found[place] = each.decode()
        except UnicodeDecodeError:
            found[place] = {"b64": base64.b64encode(each).decode()}
    return found.reshape(array.shape).tolist()


def _read(content: bytes, spec: SignatureSpec, wanted: tuple[str, ...]) -> dict[str, Array]:
    outputs = _loads(content)["outputs"]
    if len(spec.outputs) == 1:
        outputs = {next(iter(spec.outputs)): outputs}
    return {name: _array(outputs[name], each) for name, each in spec.outputs.items() if not wanted or name in wanted}


def _array(value: Any, spec: TensorSpec) -> Array:
    if spec.dtype != "string":
        return np.array(value, np.dtype(spec.dtype))
    # Objects are {"b64": ...}, which NumPy takes for one element each.
    array = np.array(value, object)
    flat = np.empty(array.size, object)
    for place, each in enumerate(array.ravel().tolist()):
        flat[place] = base64.b64decode(each["b64"]) if isinstance(each, dict) else each.encode()
    return flat.reshape(array.shape)


def _specs(infos: dict[str, Any]) -> dict[str, TensorSpec]:
    found = {}
    for name, info in infos.items():
        shape = info.get("tensor_shape", {})
        sizes = tuple(None if int(dim["size"]) < 0 else int(dim["size"]) for dim in shape.get("dim", []))
        dtype = info["dtype"].removeprefix("DT_").lower()
        dtype = {"float": "float32", "double": "float64", "half": "float16"}.get(dtype, dtype)
        found[name] = TensorSpec(dtype, None if shape.get("unknown_rank") else sizes)
    return found


def _loads(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            return json.loads(content)
        except ValueError:
            raise ServerFailed("INTERNAL", "The server's answer is not JSON.") from None


def _content(answer: httpx.Response) -> bytes:
    if answer.status_code == 200:
        return answer.content
    try:
        message = str(orjson.loads(answer.content)["error"])
    except (ValueError, KeyError, TypeError):
        message = f"The server answered {answer.status_code}."
    raise http_error(answer.status_code, message)


def _error(error: httpx.HTTPError) -> Exception:
    if isinstance(error, httpx.ConnectTimeout):
        return error_of("UNAVAILABLE", "The server did not accept a connection.")
    if isinstance(error, httpx.TimeoutException):
        return error_of("DEADLINE_EXCEEDED", "The server did not answer in time.")
    return error_of("UNAVAILABLE", f"The server cannot be reached ({type(error).__name__}: {error}).")
