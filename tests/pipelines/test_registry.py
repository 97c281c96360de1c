from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from pipelines.errors import BadInput
from pipelines.registry import CONFIG, REGISTRY, Registry


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Five versions of a model, as far as a registry looks."""
    for version in range(1, 6):
        folder = tmp_path / "models" / "news" / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()
    return tmp_path / "models"


def served(models: Path) -> dict[str, int]:
    """Labels of the model server's config, by the official protobuf."""
    config = text_format.Parse((models / CONFIG).read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    labels = dict(model.version_labels)
    assert sorted(set(labels.values())) == list(model.model_version_policy.specific.versions)
    return labels


def champion(registry: Registry, version: int) -> None:
    registry.add("news", version, "new")
    registry.promote("news", version, "better")


def test_a_version_is_candidate_canary_champion_and_retired(models: Path) -> None:
    registry = Registry(models)
    registry.add("news", 1, "first")
    registry.promote("news", 1, "nothing serves yet")
    assert served(models) == {"champion": 1}
    registry.add("news", 2, "trained on Tuesday")
    assert served(models) == {"champion": 1}
    registry.try_out("news", 2, "experiment 7")
    assert served(models) == {"champion": 1, "canary": 2}
    registry.promote("news", 2, "better")
    assert served(models) == {"champion": 2, "before": 1}
    registry.add("news", 3, "trained on Wednesday")
    registry.try_out("news", 3, "experiment 8")
    registry.retire("news", 3, "worse")
    assert served(models) == {"champion": 2, "before": 1}
    model = registry.model("news")
    assert model.states == {1: "retired", 2: "champion", 3: "retired"}
    assert [change.why for change in model.history][:3] == ["first", "nothing serves yet", "trained on Tuesday"]


def test_a_rollback_leads_to_the_champion_before_and_back_again(models: Path) -> None:
    registry = Registry(models)
    for version in (1, 2, 3):
        champion(registry, version)
    assert registry.roll_back("news", "complaints") == 2
    assert served(models) == {"champion": 2, "before": 3}
    assert registry.roll_back("news", "it was not that") == 3
    assert registry.model("news").states == {1: "retired", 2: "retired", 3: "champion"}


def test_after_two_bad_champions_a_rollback_leads_further_back(models: Path) -> None:
    registry = Registry(models)
    for version in (1, 2, 3):
        champion(registry, version)
    registry.add("news", 4, "another")
    assert registry.roll_back("news", "complaints") == 2
    for wrong, words in ((2, "version 2 .* such are: 1, 3"), (4, "no champion of the past"), (9, "no champion of")):
        with pytest.raises(BadInput, match=words):
            registry.roll_back("news", "", to=wrong)
    assert registry.roll_back("news", "more complaints", to=1) == 1
    assert served(models) == {"champion": 1, "before": 2}
    assert registry.model("news").states == {1: "champion", 2: "retired", 3: "retired", 4: "candidate"}


def test_what_is_no_longer_there_never_gets_a_label(models: Path) -> None:
    registry = Registry(models)
    for version in (1, 2):
        champion(registry, version)
    registry.add("news", 3, "new")
    before = (models / REGISTRY).read_bytes()
    for gone in (1, 3):
        (models / "news" / str(gone) / "saved_model.pb").unlink()
    for wrong in (
        lambda: registry.roll_back("news"),
        lambda: registry.promote("news", 3),
        lambda: registry.try_out("news", 3),
        lambda: registry.pin("news", "frozen", 1),
    ):
        with pytest.raises(BadInput, match="no longer there"):
            wrong()
    assert (models / REGISTRY).read_bytes() == before


def test_what_cannot_be_is_refused_and_changes_nothing(models: Path) -> None:
    registry = Registry(models)
    registry.add("news", 1, "first")
    registry.promote("news", 1, "first")
    registry.add("news", 2, "second")
    registry.add("news", 4, "fourth")
    registry.try_out("news", 4, "look")
    before = (models / REGISTRY).read_bytes()
    for wrong, words in (
        (lambda: registry.add("news", 1, ""), "known already: it is champion"),
        (lambda: registry.add("news", 9, ""), "not an exported version"),
        (lambda: registry.try_out("news", 2, ""), "version 4 of news is the canary"),
        (lambda: registry.promote("news", 3, ""), "not known to the registry"),
        (lambda: registry.promote("mail", 1, ""), "not known to the registry"),
        (lambda: registry.roll_back("news", ""), "no champion before"),
        (lambda: registry.serve_at("models"), "absolute path"),
    ):
        with pytest.raises(BadInput, match=words):
            wrong()
    assert (models / REGISTRY).read_bytes() == before
    with pytest.raises(BadInput, match="not a folder of models"):
        Registry(models / "nowhere")


def test_a_container_sees_the_folder_elsewhere(models: Path) -> None:
    registry = Registry(models)
    registry.add("news", 1, "first")
    registry.promote("news", 1, "first")
    assert f'base_path: "{models.resolve()}/news"' in (models / CONFIG).read_text()
    registry.serve_at("/models/")
    assert 'base_path: "/models/news"' in (models / CONFIG).read_text()


def test_a_config_that_a_crash_left_behind_is_written_when_it_is_opened(models: Path) -> None:
    registry = Registry(models)
    registry.add("news", 1, "first")
    old = (models / CONFIG).read_text()
    registry.promote("news", 1, "first")
    new = (models / CONFIG).read_text()
    (models / CONFIG).write_text(old)
    Registry(models)
    assert (models / CONFIG).read_text() == new


def test_a_damaged_registry_is_said_to_be_so(models: Path) -> None:
    (models / REGISTRY).write_text('{"format": 2}')
    with pytest.raises(BadInput, match="no registry that this Belfry reads"):
        Registry(models)


def _add(models: Path, version: int) -> None:
    Registry(models).add("news", version, f"by {os.getpid()}")


def test_changes_at_once_are_all_there(models: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(models, version)) for version in range(1, 6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Registry(models).model("news").states == dict.fromkeys(range(1, 6), "candidate")


def test_killed_at_any_moment_it_is_whole_and_the_champion_serves(models: Path) -> None:
    registry = Registry(models)
    for version in (1, 2):
        champion(registry, version)
    code = (
        "import sys; from pathlib import Path; from pipelines.registry import Registry\n"
        "registry = Registry(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True: registry.roll_back('news', 'again')"
    )
    rng = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", code, str(models)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        # What a server reads is whole at this moment, and right once the registry has been opened.
        assert served(models)["champion"] in (1, 2)
        model = Registry(models).model("news")
        assert served(models) == model.served
        assert sorted(model.states.values()) == ["champion", "retired"]


def test_a_pinned_version_stays_served_whatever_becomes_of_it(models: Path) -> None:
    registry = Registry(models)
    for version in (1, 2, 3):
        champion(registry, version)
    registry.pin("news", "frozen", 1, "holdout of the first quarter")
    assert served(models) == {"champion": 3, "before": 2, "frozen": 1}
    registry.add("news", 4, "new")
    registry.pin("news", "look", 4, "for the editors")
    registry.retire("news", 4, "worse")
    champion(registry, 5)
    assert served(models) == {"champion": 5, "before": 3, "frozen": 1, "look": 4}
    registry.pin("news", "frozen", 2, "a new quarter")
    assert registry.unpin("news", "look", "seen") == 4
    assert served(models) == {"champion": 5, "before": 3, "frozen": 2}
    pins = Registry(models).model("news").pin_history
    assert [(pin.label, pin.version) for pin in pins] == [("frozen", 1), ("look", 4), ("frozen", 2), ("look", None)]
    assert pins[0].why == "holdout of the first quarter"


def test_a_pin_that_cannot_be_is_refused_and_changes_nothing(models: Path) -> None:
    registry = Registry(models)
    champion(registry, 1)
    registry.add("news", 2, "second")
    registry.pin("news", "frozen", 1, "")
    (models / "news" / "2" / "saved_model.pb").unlink()
    before = (models / REGISTRY).read_bytes()
    for wrong, words in (
        (lambda: registry.pin("news", "champion", 1, ""), "no label to pin"),
        (lambda: registry.pin("news", "before", 1, ""), "no label to pin"),
        (lambda: registry.pin("news", 'a" b', 1, ""), "no label to pin"),
        (lambda: registry.pin("news", "look", 3, ""), "not known to the registry"),
        (lambda: registry.pin("news", "look", 2, ""), "no longer there"),
        (lambda: registry.pin("news", "frozen", 1, ""), "has the label frozen already"),
        (lambda: registry.unpin("news", "look", ""), "pinned as look"),
    ):
        with pytest.raises(BadInput, match=words):
            wrong()
    assert (models / REGISTRY).read_bytes() == before


def test_a_registry_from_before_there_were_pins_opens(models: Path) -> None:
    change = {"version": 1, "state": "champion", "at": 1.0, "why": "first"}
    content = {"format": 1, "served_at": None, "models": {"news": {"history": [change]}}}
    (models / REGISTRY).write_text(json.dumps(content))
    registry = Registry(models)
    assert registry.model("news").served == served(models) == {"champion": 1}
    registry.pin("news", "frozen", 1, "holdout")
    assert served(models) == {"champion": 1, "frozen": 1}
