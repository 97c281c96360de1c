"""Versions come and go under a running server."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.model_server import ModelServer, Options, ServingError
from serving.model_server.lifecycle import ServedModel
from serving.model_server.loaded import LoadedModel
from serving.model_server.versions import State

Publish = Callable[[Path, int | str, str], Path]
Eventually = Callable[..., None]
X = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
def client(tmp_path: Path, publish: Publish, connect: Any) -> Iterator[Any]:
    """A running server with version 1 (scale 1) of a model that looks for versions often."""
    publish(tmp_path / "m", 1, "numeric1")
    options = Options(model_base_path=tmp_path / "m", poll_wait_seconds=0.05, max_load_retries=0)
    with ModelServer(options) as server:
        yield connect(server)


def answer(client: Any) -> float:
    return float(client.rows([[1, 2, 3]])[0][0])


def test_a_newer_version_takes_over_without_a_failed_request(
    client: Any, tmp_path: Path, publish: Publish, eventually: Eventually
) -> None:
    stop = threading.Event()
    failures: list[Exception] = []
    seen: list[list[int]] = [[] for _ in range(5)]

    def ask(mine: list[int], by_rest: bool) -> None:
        while not stop.is_set():
            try:
                if by_rest:
                    mine.append(round(answer(client) / 14))
                else:
                    response = client.prediction.Predict(client.request({"x": X}), timeout=20)
                    version = response.model_spec.version.value
                    assert list(response.outputs["y"].float_val) == [14.0 * version]
                    mine.append(version)
            except Exception as failure:
                failures.append(failure)
                return

    threads = [threading.Thread(target=ask, args=(mine, index % 2 == 0)) for index, mine in enumerate(seen)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3):
            publish(tmp_path / "m", version, f"numeric{version}")
            eventually(lambda version=version: all(mine and mine[-1] == version for mine in seen) or failures)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert all(mine == sorted(mine) and set(mine) == {1, 2, 3} for mine in seen)
    eventually(lambda: client.states() == {3: "AVAILABLE", 2: "END", 1: "END"})


def test_a_broken_version_never_replaces_a_good_one(client: Any, tmp_path: Path, eventually: Eventually) -> None:
    broken = tmp_path / "m" / "2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a graph")
    eventually(lambda: client.states().get(2) == "END")
    assert client.states() == {2: "END", 1: "AVAILABLE"}
    status = client.http.get("/v1/models/default/versions/2").json()["model_version_status"][0]["status"]
    assert status["error_code"] == "NOT_FOUND"
    assert "No readable SavedModel" in status["error_message"]
    assert answer(client) == 14


def test_a_broken_version_is_tried_again_once_its_files_change(
    client: Any, tmp_path: Path, exported: Path, eventually: Eventually
) -> None:
    folder = tmp_path / "m" / "2"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes((exported / "numeric2" / "saved_model.pb").read_bytes())
    eventually(lambda: client.states().get(2) == "END")  # the graph is there, its variables are not
    shutil.copytree(exported / "numeric2", folder, dirs_exist_ok=True)
    eventually(lambda: answer(client) == 28)


def test_a_folder_without_a_graph_is_waited_for(
    client: Any, tmp_path: Path, exported: Path, eventually: Eventually
) -> None:
    folder = tmp_path / "m" / "2"
    folder.mkdir()
    eventually(lambda: client.states().get(2) == "START")
    assert answer(client) == 14
    shutil.copytree(exported / "numeric2", folder, dirs_exist_ok=True)
    eventually(lambda: answer(client) == 28)


def test_deleting_the_newest_version_goes_back(
    client: Any, tmp_path: Path, publish: Publish, eventually: Eventually
) -> None:
    publish(tmp_path / "m", 2, "numeric2")
    eventually(lambda: client.states() == {2: "AVAILABLE", 1: "END"})
    shutil.rmtree(tmp_path / "m" / "2")
    eventually(lambda: client.states() == {2: "END", 1: "AVAILABLE"})
    assert answer(client) == 14


def test_numbers_are_compared_as_numbers(client: Any, tmp_path: Path, publish: Publish, eventually: Eventually) -> None:
    publish(tmp_path / "m", "0010", "numeric2")
    publish(tmp_path / "m", 9, "numeric3")
    eventually(lambda: client.states().get(10) == "AVAILABLE")
    assert answer(client) == 28


def test_losing_the_base_path_changes_nothing(
    client: Any, tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").rename(tmp_path / "away")
    eventually(lambda: "cannot be read; nothing changes until it can" in caplog.text)
    assert (client.states(), answer(client)) == ({1: "AVAILABLE"}, 14)
    (tmp_path / "away").rename(tmp_path / "m")


def test_deleting_every_version_unloads_and_a_new_one_comes_back(
    client: Any, tmp_path: Path, publish: Publish, eventually: Eventually
) -> None:
    shutil.rmtree(tmp_path / "m" / "1")
    eventually(lambda: client.states() == {1: "END"})
    assert client.post({"instances": [[1, 2, 3]]}).status_code == 404
    assert client.http.get("/readyz").status_code == 503
    assert client.http.get("/healthz").status_code == 200
    publish(tmp_path / "m", 1, "numeric3")
    eventually(lambda: client.http.get("/readyz").status_code == 200)
    assert answer(client) == 42


def test_a_request_under_way_finishes_on_the_version_it_started_on(tmp_path: Path, publish: Publish) -> None:
    publish(tmp_path, 1, "numeric1")
    served = ServedModel("m", tmp_path, LoadedModel)
    served.poll()
    with served.lease() as (version, model):
        publish(tmp_path, 2, "numeric2")
        served.poll()
        assert [(one.version, one.state) for one in served.statuses()] == [(2, State.AVAILABLE), (1, State.UNLOADING)]
        with served.lease() as (newer, _):
            assert (version, newer) == (1, 2)
        with pytest.raises(ServingError, match=r"Specific\(m, 1\)"), served.lease(1):
            pass
        served.poll()  # must not close what is in use
        signature = model.signature("")
        assert signature is not None
        assert model.run(signature, {"x": X})["y"].tolist() == [[14.0]]
    served.poll()
    assert [one.state for one in served.statuses()] == [State.AVAILABLE, State.END]
    served.stop()
    assert not served.available


def test_failed_loads_are_retried_as_often_as_told(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"not a graph")
    served = ServedModel("m", tmp_path, LoadedModel, max_load_retries=2, load_retry_interval_seconds=0)
    for expected in (State.LOADING, State.LOADING, State.END, State.END):
        served.poll()
        assert [one.state for one in served.statuses()] == [expected]


def test_an_error_that_nobody_foresaw_ends_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"a graph")

    def load(folder: Path) -> Any:
        raise MemoryError("no room")

    served: ServedModel[Any] = ServedModel("m", tmp_path, load, max_load_retries=0)
    served.start()
    with pytest.raises(ServingError, match="Version 1 of model m failed to load: MemoryError: no room"):
        served.wait()
    served.stop()


def test_ports_open_only_after_the_model_has_loaded(
    tmp_path: Path, publish: Publish, connect: Any, eventually: Eventually
) -> None:
    server = ModelServer(Options(model_base_path=tmp_path, poll_wait_seconds=0.05))
    starting = threading.Thread(target=server.start)
    starting.start()
    eventually(lambda: server._served is not None and server._served.models)
    assert server.rest_url is None
    publish(tmp_path, 1, "numeric1")
    starting.join(20)
    assert answer(connect(server)) == 14
    server.stop()
    server.stop()  # again does no harm


def test_a_server_without_ports_serves_this_process(tmp_path: Path, publish: Publish) -> None:
    publish(tmp_path, 1, "numeric1")
    server = ModelServer(Options(model_base_path=tmp_path, rest_port=None, grpc_port=None))
    assert server.registry is None
    with server:
        assert (server.rest_url, server.grpc_target) == (None, None)
        assert server.registry is not None
        with server.registry.lease("default") as (version, model):
            assert model.run(model.signatures["serving_default"], {"x": X})["y"].tolist() == [[14.0]]
            assert version == 1
    assert server.registry is None


def test_waiting_for_a_first_version_can_be_called_off(tmp_path: Path) -> None:
    server = ModelServer(Options(model_base_path=tmp_path))
    server.start(cancelled=lambda: True)
    assert (server.rest_port, server.grpc_port) == (None, None)
    server.stop()


def test_an_older_version_serves_when_the_newest_is_broken_from_the_start(tmp_path: Path, publish: Publish) -> None:
    publish(tmp_path, 1, "numeric1")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"not a graph")
    with ModelServer(Options(model_base_path=tmp_path)) as server:
        assert server._served is not None
        assert [(one.version, one.state) for one in server._served.models["default"].statuses()] == [
            (2, State.LOADING),  # its retries are not over
            (1, State.AVAILABLE),
        ]


def test_the_only_version_failing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(ServingError, match="Version 1 of model default failed to load"):
        ModelServer(Options(model_base_path=tmp_path, max_load_retries=0)).start()


def test_looking_once_and_finding_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="No version of model default was found"):
        ModelServer(Options(model_base_path=tmp_path, poll_wait_seconds=0)).start()


def test_a_port_in_use_is_an_error(client: Any, tmp_path: Path) -> None:
    for taken in (
        {"rest_port": client.server.rest_port},
        {"grpc_port": client.server.grpc_port, "rest_port": None},
    ):
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1"):
            ModelServer(Options(model_base_path=tmp_path / "m", **taken)).start()


def test_an_ipv6_loopback_address(tmp_path: Path, publish: Publish, connect: Any) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    publish(tmp_path, 1, "numeric1")
    with ModelServer(Options(model_base_path=tmp_path, bind_address="::1")) as server:
        client = connect(server)
        assert answer(client) == 14
        assert client.predict({"x": X})["y"].tolist() == [[14.0]]
