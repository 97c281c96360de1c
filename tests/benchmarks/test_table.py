from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.quality.table import Outcome, champion, summary, write
from pipelines.artefacts import read_json

TASK = SimpleNamespace(name="t", about="About.", metric="auc", columns=("auc", "mrr"), exams={"dev": None})


def _outcome(name: str, level: float, *, ours: bool = False, validation: float | None = None) -> Outcome:
    rng = np.random.default_rng(len(name))
    told = {"method": name, "ours": ours, "setting": {"k": 1}, "settings_tried": 2, "validation": validation}
    told |= {"tuning_seconds": 1.0, "training_seconds": 2.0, "peak_mib": 3.0}
    return Outcome(told, {f"dev/{column}": level + rng.random(40) / 100 for column in TASK.columns})


def _outcomes() -> list[Outcome]:
    return [
        _outcome("peer", 0.5),
        _outcome("one of ours", 0.6, ours=True, validation=0.3),
        _outcome("another of ours", 0.7, ours=True, validation=0.2),
        Outcome({"method": "absent", "ours": False, "missing": "torch"}, {}),
    ]


def test_leads_are_of_the_recipe_that_is_named_first_and_not_of_the_best_on_the_test() -> None:
    best = champion(_outcomes())
    assert best is not None
    assert best.name == "one of ours"


def test_the_files_have_an_interval_for_every_metric_and_say_what_did_not_run(tmp_path: Path) -> None:
    found = summary(TASK, _outcomes())
    text = write(tmp_path, "t", [found]).read_text()
    written = read_json(tmp_path / "quality-t.json")["tasks"][0]
    for name in ("peer", "one of ours", "another of ours"):
        for column in TASK.columns:
            value = written["exams"]["dev"]["metrics"][name][column]
            assert value["low"] <= value["mean"] <= value["high"]
            assert f"{value['mean']:.4f} [{value['low']:.3f}, {value['high']:.3f}]" in text
    assert "| absent | not run: torch is not installed |" in text
    lead = written["exams"]["dev"]["lead"]
    assert set(lead) == {"peer", "another of ours"}
    assert lead["peer"]["auc"]["low"] > 0.08
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality-t.json", "quality-t.md"]
