"""`belfry monitor`: what it prints, what it starts, and what it refuses."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import monitoring
from pipelines.cli.app import run
from pipelines.errors import BadInput
from pipelines.monitoring import RetrainCommand, Watched, monitor, stored, watch
from serving.events import Store, StoreAway
from tests.serving.monitoring.conftest import DAY, HOUR, a_day, put_catalogue

RULES = "rules: [{name: traffic, metric: slates, above: 10, action: retrain, cool_down_hours: 0}]"


@pytest.fixture
def first() -> int:
    """The beginning of a day, four days ago."""
    return (time.time_ns() // 1000 // DAY - 4) * DAY


@pytest.fixture
def where(tmp_path: Path, first: int) -> str:
    with Store(tmp_path / "store") as store:
        put_catalogue(store, first)
        for number in range(4):
            a_day(number, 120, first=first, variant=["a", "b"][number % 2]).write(store)
    return str(tmp_path / "store")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


@dataclass(frozen=True)
class Instead(RetrainCommand):
    """Another program in the place of `belfry retrain`."""

    code: str = ""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]


def test_windows_are_shown_once_and_then_as_they_are_stored(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitor", "--store", where]) == 0
    out = capsys.readouterr().out
    assert out.count("  all: ") >= 2
    assert "ctr" in out
    assert "% to " in out
    assert "variant b: " in out
    assert "There is no fingerprint".lower() in out.lower()
    assert run(["monitor", "--store", where, "--slices"]) == 0
    again = capsys.readouterr().out
    assert again.count("  all: ") == 1
    assert "device=mobile: " in again
    assert run(["monitor", "--store", where, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["start"].endswith("T00:00:00Z")
    assert {"ctr", "drifting"} <= {each["metric"] for each in found["measures"]}


def test_an_empty_store_has_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "store").close()
    assert run(["monitor", "--store", str(tmp_path / "store")]) == 0
    assert "no window" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--store", "nowhere"], "is not a store"),
        (["--retrain-work", "work"], "--retrain-work needs --models and --model"),
        (["--model-server", "grpc://127.0.0.1:1"], "name the model"),
        (["--rules", "none.yaml"], "none.yaml cannot be read"),
        (["--hours", "0"], "0.1"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = [] if "--store" in arguments else ["--store", where]
    assert run(["monitor", *store, *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_retraining_is_called_without_a_shell(tmp_path: Path) -> None:
    odd = tmp_path / "a folder; rm -rf $HOME"
    command = RetrainCommand("postgresql://x", odd, "feed", odd / "work", Path("recipe.yaml")).command
    assert command[3:] == [
        *("retrain", "--store", "postgresql://x", "--models", str(odd), "--model", "feed", "--work", str(odd / "work")),
        *("--recipe", "recipe.yaml"),
    ]


@pytest.mark.parametrize(
    ("code", "became"),
    [("", "done"), ("import sys; sys.exit(3)", "another"), ("import sys; sys.exit(1)", "failed with")],
)
def test_a_rule_starts_a_retraining(
    where: str, rules: Path, tmp_path: Path, first: int, code: str, became: str
) -> None:
    retraining = Instead(where, tmp_path, "feed", tmp_path / "work", code=code)
    watched = Watched(where, rules=rules, retraining=retraining)
    looks = list(monitor(watched, threading.Event(), clock=lambda: first + 3 * DAY + 2 * HOUR))
    assert [(look.start, look.raised) for look in looks] == [(first + DAY, ["traffic"]), (first + 2 * DAY, ["traffic"])]
    assert [bool(look.retrained and look.retrained.startswith(became)) for look in looks] == [True, True]
    assert list(monitor(watched, threading.Event(), clock=lambda: first + 3 * DAY + 2 * HOUR)) == []
    last = stored(watched)
    assert last is not None
    assert last.start == looks[-1].start
    assert last.raised == ["traffic"]
    told = [each for look in looks for each in look.fired]
    assert [each.state for each in told] == ["raised", "raised"]


def test_a_window_that_was_stored_and_not_judged_is_judged_next(
    where: str, rules: Path, tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is away, or the process is killed, between the two: nothing it would have told may be lost."""
    watched = Watched(where, rules=rules, retraining=Instead(where, tmp_path, "feed", tmp_path / "work"))
    judge = monitoring.evaluate_rules

    def away(*arguments: Any) -> Any:
        monkeypatch.setattr(monitoring, "evaluate_rules", judge)
        raise StoreAway("The store cannot be used at the moment.")

    def clock() -> int:
        return first + 3 * DAY + 2 * HOUR

    monkeypatch.setattr(monitoring, "evaluate_rules", away)
    with pytest.raises(BadInput, match="cannot be used"):
        list(monitor(watched, clock=clock))
    looks = list(monitor(watched, clock=clock))
    assert [look.start for look in looks] == [first + DAY, first + 2 * DAY]
    assert [[each.rule for each in look.fired] for look in looks] == [["traffic"], ["traffic"]]
    assert all(look.retrained and look.retrained.startswith("done") for look in looks)
    assert looks[0].measures
    assert list(monitor(watched, clock=clock)) == []


def test_watching_goes_on_until_it_is_stopped(where: str, rules: Path, tmp_path: Path, first: int) -> None:
    stop = threading.Event()
    retraining = Instead(where, tmp_path, "feed", tmp_path / "work", code="import time; time.sleep(60)")
    looks: list[Any] = []
    threading.Timer(1.0, stop.set).start()
    for look in watch(Watched(where, rules=rules, retraining=retraining), stop, clock=lambda: first + 3 * DAY):
        looks.append(look)
    assert [look.retrained for look in looks] == ["stopped"]


def test_a_broken_fingerprint_stops_nothing(where: str, tmp_path: Path, first: int) -> None:
    extra = tmp_path / "models" / "feed" / "1" / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "fingerprint.json").write_text("{}")
    watched = Watched(where, models=tmp_path / "models")
    looks = list(monitor(watched, threading.Event(), clock=lambda: first + 2 * DAY + 2 * HOUR))
    assert "The fingerprint cannot be read" in " ".join(looks[0].skipped)
    with pytest.raises(BadInput, match="name the model"):
        list(monitor(Watched(where, model_server="grpc://127.0.0.1:1"), threading.Event(), clock=lambda: 0))
