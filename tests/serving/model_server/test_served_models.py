"""Many models: a config file, its changes, reload requests, policies and labels."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2

from serving.model_server import ModelServer, Options, ServingError

Publish = Callable[[Path, int | str, str], Path]
Eventually = Callable[..., None]


def entry(base: Path, policy: str = "", **labels: int) -> str:
    marks = " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
    return (
        f'config {{ name: "{base.name}" base_path: "{base}" model_platform: "tensorflow" '
        f"{f'model_version_policy {{ {policy} }}' if policy else ''} {marks} }}"
    )


def text(*entries: str) -> str:
    return "model_config_list { " + " ".join(entries) + " }"


class Fleet:
    """A server of models below one folder, and what a test asks of it."""

    def __init__(self, root: Path, server: ModelServer, client: Any, publish: Publish) -> None:
        self.root, self.server, self.client, self.publish = root, server, client, publish
        self.file = root / "models.config"

    def put(self, name: str, version: int, source: str) -> None:
        self.publish(self.root / name, version, source)

    def write(self, *entries: str) -> None:
        draft = self.file.with_suffix(".draft")
        draft.write_text(text(*entries))
        draft.rename(self.file)

    def reload(self, *entries: str, timeout: float = 20) -> None:
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(text(*entries), request.config)
        response = self.client.models.HandleReloadConfigRequest(request, timeout=timeout)
        assert response.status.error_code == 0

    def ask(self, name: str, path: str = "") -> float | int:
        """The model's scale, or the status of the refusal."""
        answer = self.client.http.post(f"/v1/models/{name}{path}:predict", json={"instances": [[1, 2, 3]]})
        return answer.json()["predictions"][0][0] / 14 if answer.status_code == 200 else answer.status_code

    def states(self, name: str) -> dict[int, str]:
        answer = self.client.http.get(f"/v1/models/{name}").json()
        return {int(one["version"]): one["state"] for one in answer.get("model_version_status", [])}


@pytest.fixture
def fleet(tmp_path: Path, publish: Publish, connect: Any) -> Iterator[Callable[..., Fleet]]:
    """Start a server whose config file lists the entries."""
    servers: list[ModelServer] = []

    def start(*entries: str, **options: Any) -> Fleet:
        (tmp_path / "models.config").write_text(text(*entries))
        settings = {"poll_wait_seconds": 0.05, "max_load_retries": 0, "model_config_poll_wait_seconds": 0.05} | options
        server = ModelServer(Options(model_config_file=tmp_path / "models.config", **settings))
        server.start()
        servers.append(server)
        return Fleet(tmp_path, server, connect(server), publish)

    yield start
    for server in servers:
        server.stop()


def test_every_listed_model_serves(tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet]) -> None:
    for number, name in enumerate("abc", 1):
        publish(tmp_path / name, 1, f"numeric{number}")
    served = fleet(*(entry(tmp_path / name) for name in "abc"))
    assert [served.ask(name) for name in "abc"] == [1, 2, 3]
    assert served.server.model_names == ["a", "b", "c"]
    assert [one["name"] for one in served.client.http.get("/models").json()["models"]] == ["a", "b", "c"]
    assert served.ask("d") == 404


@pytest.mark.parametrize(
    ("policy", "available"),
    [
        ("", {3}),
        ("latest {}", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("latest { num_versions: 9 }", {1, 2, 3}),
        ("all {}", {1, 2, 3}),
        ("specific { versions: 1 versions: 2 }", {1, 2}),
    ],
)
def test_a_policy_says_which_versions_serve(
    policy: str, available: set[int], tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet]
) -> None:
    for version in (1, 2, 3):
        publish(tmp_path / "a", version, f"numeric{version}")
    served = fleet(entry(tmp_path / "a", policy))
    for version in (1, 2, 3):
        assert served.ask("a", f"/versions/{version}") == (version if version in available else 404)
    assert served.ask("a") == max(available)


def test_a_new_version_moves_the_window(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    for version in (1, 2):
        publish(tmp_path / "a", version, f"numeric{version}")
    served = fleet(entry(tmp_path / "a", "latest { num_versions: 2 }"))
    served.put("a", 3, "numeric3")
    eventually(lambda: served.states("a") == {3: "AVAILABLE", 2: "AVAILABLE", 1: "END"})
    (tmp_path / "a" / "4").mkdir()
    (tmp_path / "a" / "4" / "saved_model.pb").write_bytes(b"not a graph")
    eventually(lambda: served.states("a").get(4) == "END")
    assert served.states("a") == {4: "END", 3: "AVAILABLE", 2: "AVAILABLE", 1: "END"}


def test_a_specific_version_that_is_not_there_leaves_the_old_one(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    served = fleet(entry(tmp_path / "a", "specific { versions: 1 }"))
    served.write(entry(tmp_path / "a", "specific { versions: 2 }"))
    eventually(lambda: served.server._served.configs["a"].policy.specific == {2})  # type: ignore[union-attr]
    assert served.ask("a") == 1
    served.put("a", 2, "numeric2")
    eventually(lambda: served.states("a") == {2: "AVAILABLE", 1: "END"})


def test_the_file_is_looked_at_again(
    tmp_path: Path,
    publish: Publish,
    fleet: Callable[..., Fleet],
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    publish(tmp_path / "b", 1, "numeric2")
    served = fleet(entry(tmp_path / "a"))
    served.write(entry(tmp_path / "b"))
    eventually(lambda: served.ask("b") == 2)
    eventually(lambda: served.states("a") == {1: "END"})
    assert served.ask("a") == 404
    served.file.write_text("nonsense")
    eventually(lambda: "is not applied: Invalid protobuf file" in caplog.text)
    assert served.ask("b") == 2
    served.write(entry(tmp_path / "a"), entry(tmp_path / "b"))
    eventually(lambda: served.ask("a") == 1)
    assert served.client.http.get("/readyz").status_code == 200


def test_a_reload_replaces_the_whole_config_once_new_models_are_available(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    publish(tmp_path / "b", 1, "numeric2")
    served = fleet(entry(tmp_path / "a"), poll_wait_seconds=0)  # even if versions are looked for once
    served.reload(entry(tmp_path / "b"))
    assert (served.ask("a"), served.ask("b")) == (404, 2)
    eventually(lambda: served.states("a") == {1: "END"})
    served.reload(entry(tmp_path / "a"), entry(tmp_path / "b"))
    assert (served.ask("a"), served.ask("b")) == (1, 2)
    served.reload()
    assert (served.ask("a"), served.ask("b")) == (404, 404)


def test_a_refused_reload_changes_nothing(tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet]) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    publish(tmp_path / "b", 1, "numeric2")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"not a graph")
    served = fleet(entry(tmp_path / "a"))
    for wrong, code in (
        ([entry(tmp_path / "b"), entry(tmp_path / "b")], "INVALID_ARGUMENT"),
        ([entry(tmp_path / "b"), entry(Path("relative"))], "INVALID_ARGUMENT"),
        ([entry(tmp_path / "b", stable=9)], "FAILED_PRECONDITION"),
        ([entry(tmp_path / "b"), entry(tmp_path / "broken")], "NOT_FOUND"),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            served.reload(*wrong)
        assert refusal.value.code().name == code
        assert (served.ask("a"), served.ask("b"), served.ask("broken")) == (1, 404, 404)
    with pytest.raises(grpc.RpcError) as refusal:
        served.client.models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_reload_waits_for_a_model_and_can_be_called_off(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    (tmp_path / "b").mkdir()
    served = fleet(entry(tmp_path / "a"))
    with pytest.raises(grpc.RpcError) as late:
        served.reload(entry(tmp_path / "b"), timeout=0.3)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = threading.Thread(target=served.reload, args=(entry(tmp_path / "b"),))
    waiting.start()
    assert served.ask("a") == 1
    assert served.client.http.get("/readyz").status_code == 200
    served.put("b", 1, "numeric2")
    waiting.join(20)
    assert (served.ask("a"), served.ask("b")) == (404, 2)


def test_reloads_that_wait_for_one_another_do_not_keep_requests_waiting(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    (tmp_path / "b").mkdir()
    served = fleet(entry(tmp_path / "a"), grpc_max_threads=3)
    waiting = threading.Thread(target=lambda: _called_off(lambda: served.reload(entry(tmp_path / "b"), timeout=4)))
    waiting.start()
    eventually(lambda: "b" in served.server._served.models)  # type: ignore[union-attr]
    for _ in range(3):  # whose clients do not wait for long
        _called_off(lambda: served.reload(entry(tmp_path / "a"), timeout=0.2))
    request = served.client.request({"x": [[1.0, 2.0, 3.0]]})
    request.model_spec.name = "a"
    assert served.client.prediction.Predict(request, timeout=2).model_spec.version.value == 1
    waiting.join(20)


def test_stopping_does_not_wait_for_a_reload_and_a_changed_file(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    (tmp_path / "b").mkdir()
    served = fleet(entry(tmp_path / "a"))
    waiting = threading.Thread(target=lambda: _called_off(lambda: served.reload(entry(tmp_path / "b"), timeout=60)))
    waiting.start()
    eventually(lambda: "b" in served.server._served.models)  # type: ignore[union-attr]
    served.write(entry(tmp_path / "a", "all {}"))
    threading.Event().wait(0.3)  # the file has been seen
    stopping = threading.Thread(target=served.server.stop)
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()
    waiting.join(20)


def _called_off(call: Callable[[], None]) -> None:
    with pytest.raises(grpc.RpcError):
        call()


def test_a_label_moves_before_its_version_goes(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.model_server.lifecycle import ServedModel

    for version in (1, 2):
        publish(tmp_path / "a", version, f"numeric{version}")
    served = fleet(entry(tmp_path / "a", "all {}"))
    served.reload(entry(tmp_path / "a", "all {}", stable=1))
    wait, answers = ServedModel.wait, []

    def wait_and_ask(self: Any, *rest: Any) -> None:
        wait(self, *rest)
        answers.append(served.ask("a", "/labels/stable"))

    monkeypatch.setattr(ServedModel, "wait", wait_and_ask)
    served.reload(entry(tmp_path / "a", "latest {}", stable=2))
    assert set(answers) == {2}
    (tmp_path / "b").mkdir()
    _called_off(lambda: served.reload(entry(tmp_path / "a", "all {}"), entry(tmp_path / "b"), timeout=0.3))
    assert served.ask("a", "/labels/stable") == 2  # as it was before


def test_a_version_that_does_not_load_unloads_nothing(
    tmp_path: Path,
    publish: Publish,
    fleet: Callable[..., Fleet],
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for version in (1, 2):
        publish(tmp_path / "a", version, f"numeric{version}")
    labels = {"champion": 2, "before": 1}
    served = fleet(
        entry(tmp_path / "a", "specific { versions: 1 versions: 2 }", **labels),
        allow_version_labels_for_unavailable_models=True,
    )
    (tmp_path / "a" / "3").mkdir()
    (tmp_path / "a" / "3" / "saved_model.pb").write_bytes(b"not a graph")
    caplog.set_level("INFO", logger="serving.model_server")
    caplog.clear()
    served.write(entry(tmp_path / "a", "specific { versions: 2 versions: 3 }", champion=3, before=2))
    eventually(lambda: "is not applied" in caplog.text)
    looked = threading.Event()
    looked.wait(0.5)  # ten looks at the file
    assert served.states("a") == {1: "AVAILABLE", 2: "AVAILABLE", 3: "END"}
    assert (served.ask("a", "/labels/champion"), served.ask("a", "/labels/before")) == (2, 1)
    assert caplog.text.count("Loading version") == 1  # of 3
    # Mended, it is as if it had been so at once.
    shutil.rmtree(tmp_path / "a" / "3")
    publish(tmp_path / "a", 3, "numeric3")
    eventually(lambda: served.ask("a", "/labels/champion") == 3)
    eventually(lambda: served.states("a") == {1: "END", 2: "AVAILABLE", 3: "AVAILABLE"})
    assert served.ask("a", "/labels/before") == 2


def test_a_file_that_changes_while_the_server_starts_is_applied(
    tmp_path: Path,
    publish: Publish,
    fleet: Callable[..., Fleet],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from serving.model_server import model_config

    for version in (1, 2):
        publish(tmp_path / "a", version, f"numeric{version}")
    read, file = model_config.read_model_configs, tmp_path / "models.config"

    def read_and_change(path: Path) -> Any:
        configs = read(path)
        monkeypatch.setattr(model_config, "read_model_configs", read)
        file.write_text(text(entry(tmp_path / "a", "specific { versions: 1 }")))
        return configs

    monkeypatch.setattr(model_config, "read_model_configs", read_and_change)
    served = fleet(entry(tmp_path / "a"))
    eventually(lambda: served.ask("a") == 1)


def test_labels_name_versions_by_rest_and_grpc(tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet]) -> None:
    for version in (1, 2):
        publish(tmp_path / "a", version, f"numeric{version}")
    served = fleet(entry(tmp_path / "a", "all {}"))
    assert served.ask("a", "/labels/stable") == 400
    served.reload(entry(tmp_path / "a", "all {}", stable=1, canary=2))
    assert [served.ask("a", f"/labels/{label}") for label in ("stable", "canary", "other")] == [1, 2, 400]
    request = served.client.request({})
    request.model_spec.name, request.model_spec.version_label = "a", "canary"
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(1)
    request.inputs["x"].tensor_shape.dim.add().size = 1
    request.inputs["x"].tensor_shape.dim.add().size = 3
    assert served.client.prediction.Predict(request).model_spec.version.value == 2
    status = served.client.http.get("/v1/models/a/labels/canary").json()["model_version_status"]
    assert [one["version"] for one in status] == ["2"]
    assert served.client.http.get("/v1/models/a/labels/stable/metadata").json()["model_spec"]["version"] == "1"
    with pytest.raises(grpc.RpcError, match="not currently available for inference"):
        served.reload(entry(tmp_path / "a", "all {}", stable=3))
    served.reload(entry(tmp_path / "a", "all {}", stable=2))
    assert [served.ask("a", f"/labels/{label}") for label in ("stable", "canary")] == [2, 400]


def test_a_label_at_the_start_needs_its_flag(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    with pytest.raises(ServingError, match="Request to assign label to version 1 of model a"):
        fleet(entry(tmp_path / "a", stable=1))
    served = fleet(entry(tmp_path / "a", "all {}", stable=1, next=2), allow_version_labels_for_unavailable_models=True)
    assert [served.ask("a", f"/labels/{label}") for label in ("stable", "next")] == [1, 404]
    with pytest.raises(grpc.RpcError):  # in use: only onto a version that serves
        served.reload(entry(tmp_path / "a", "all {}", stable=2, next=2))
    served.put("a", 2, "numeric2")
    eventually(lambda: served.ask("a", "/labels/next") == 2)
    served.reload(entry(tmp_path / "a", "all {}", stable=2, next=2))
    assert served.ask("a", "/labels/stable") == 2


def test_one_model_that_fails_at_the_start_is_an_error(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet]
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    (tmp_path / "b" / "1").mkdir(parents=True)
    (tmp_path / "b" / "1" / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(ServingError, match="Version 1 of model b failed to load"):
        fleet(entry(tmp_path / "a"), entry(tmp_path / "b"))


def test_a_model_that_never_comes_is_given_up_once_the_file_is_mended(
    tmp_path: Path, publish: Publish, fleet: Callable[..., Fleet], eventually: Eventually
) -> None:
    publish(tmp_path / "a", 1, "numeric1")
    publish(tmp_path / "b", 1, "numeric2")
    served = fleet(entry(tmp_path / "a"))
    served.write(entry(tmp_path / "a"), entry(tmp_path / "typo"))
    eventually(lambda: "typo" in served.server._served.models)  # type: ignore[union-attr]
    served.write(entry(tmp_path / "a"), entry(tmp_path / "b"))
    eventually(lambda: served.ask("b") == 2)
    assert "typo" not in served.server._served.models  # type: ignore[union-attr]
    shutil.rmtree(tmp_path / "b")
