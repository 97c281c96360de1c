from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines import evaluation
from pipelines.artefacts import read_json, write_json
from pipelines.data.dataset import Dataset
from pipelines.data.engine import choose_engine
from pipelines.errors import BadInput
from pipelines.evaluation import evaluate, table_lines
from pipelines.prepare import prepare
from pipelines.rankers import popularity
from pipelines.run import Run


def test_the_model_is_judged_beside_every_baseline_on_the_same_rows(run_folder: Path, tmp_path: Path) -> None:
    result = evaluate(Run.open(run_folder), out=tmp_path / "evaluation.json")
    assert (tmp_path / "evaluation.json").exists()
    names = {"two-tower", "popularity", "newest first", "tf-idf profile", "frozen text cosine", "itemKNN"}
    for part in ("slates", "catalogue"):
        metrics = result[part]["metrics"]
        assert names <= set(metrics)
        counts = {values["count"] for ranker in metrics.values() for values in ranker.values()}
        assert len(counts) == 1
        for ranker in metrics.values():
            for value in ranker.values():
                assert value["low"] <= value["mean"] <= value["high"]
        for name, leads in result[part]["difference"].items():
            for metric, lead in leads.items():
                expected = metrics["two-tower"][metric]["mean"] - metrics[name][metric]["mean"]
                assert lead["mean"] == pytest.approx(expected)
    assert result["slates"]["metrics"]["two-tower"]["auc"]["mean"] > 0.75
    assert result["slates"]["difference"]["popularity"]["auc"]["low"] > 0.1
    assert result["catalogue"]["metrics"]["two-tower"]["recall@10"]["mean"] > 0.3


def test_evaluation_is_the_same_twice(run_folder: Path) -> None:
    assert evaluate(Run.open(run_folder)) == evaluate(Run.open(run_folder))


def test_of_a_log_that_has_gone_on_only_what_is_later_is_judged(
    run_folder: Path, grown_dataset_folder: Path, tmp_path: Path
) -> None:
    run = Run.open(run_folder)
    own = prepare(run.training_data(), run.recipe).behaviour
    result = evaluate(run, Dataset.open(grown_dataset_folder), report=tmp_path / "report.html")
    counts = {"requests": len(own.requests), "positives": len(own.interactions)}
    assert result["left_out_as_learned_from"] == counts
    assert result["requests"] == len(own.requests)
    assert result["slates"]["metrics"]["two-tower"]["auc"]["count"] <= len(own.requests)
    said = f"{counts['requests']:,} requests, {counts['positives']:,} positives"
    assert f"left out, since the run may have learned from them: {said}" in "\n".join(table_lines(result))
    assert "requests learned from" in (tmp_path / "report.html").read_text()
    assert "learned from" not in "\n".join(table_lines(evaluate(run)))


def test_a_run_s_own_log_under_another_name_has_nothing_left(run_folder: Path, dataset_folder: Path) -> None:
    with pytest.raises(BadInput, match=r"holds nothing but what .* learned from \(until 2025-02-.*--data"):
        evaluate(Run.open(run_folder), Dataset.open(dataset_folder))


def test_another_publisher_s_log_of_the_same_time_is_judged_whole(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    run = Run.open(run_folder)
    shutil.copytree(dataset_folder, tmp_path / "other")
    events = pq.read_table(tmp_path / "other" / "events.parquet")
    users = pc.binary_join_element_wise("other", events["user_id"], "-")
    events = events.set_column(events.schema.get_field_index("user_id"), "user_id", users)
    pq.write_table(events, tmp_path / "other" / "events.parquet")
    result = evaluate(run, Dataset.open(tmp_path / "other"))
    assert result["requests"] == len(prepare(run.training_data(), run.recipe).behaviour.requests)
    assert result["left_out_as_learned_from"] == {"requests": 0, "positives": 0}


def test_a_run_whose_own_log_has_gone_on_is_judged_on_what_is_later(
    run_folder: Path,
    dataset_folder: Path,
    grown_dataset_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the baselines learn from what is not."""
    run = Run.open(moved(run_folder, dataset_folder, tmp_path))
    own = prepare(run.training_data(), run.recipe).behaviour
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(grown_dataset_folder, tmp_path / "data")
    fitted = []
    monkeypatch.setattr(
        evaluation, "popularity", lambda item, items: fitted.append(len(item)) or popularity(item, items)
    )
    result = evaluate(run, Dataset.open(tmp_path / "data"))
    assert result["left_out_as_learned_from"]["positives"] == len(own.interactions)
    assert fitted == [len(own.interactions)]


def test_text_lines_name_every_ranker(run_folder: Path) -> None:
    text = "\n".join(table_lines(evaluate(Run.open(run_folder))))
    for name in ("two-tower", "popularity", "itemKNN", "recall@100", "precision@5"):
        assert name in text
    assert "nan" not in text.lower()


def test_metrics_are_not_what_a_broken_ranker_would_get(run_folder: Path) -> None:
    metrics = evaluate(Run.open(run_folder))["slates"]["metrics"]["two-tower"]
    assert all(0 < values["mean"] < 1 for values in metrics.values())
    assert np.isfinite([values["high"] for values in metrics.values()]).all()


def test_a_run_without_its_dataset_says_where_it_was(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    origin = copy / "origin.json"
    origin.write_text(origin.read_text().replace("/data", "/gone"))
    with pytest.raises(BadInput, match=r"no longer at .*gone.*--data"):
        evaluate(Run.open(copy))


def moved(run_folder: Path, dataset: Path, folder: Path) -> Path:
    """A copy of the run whose dataset is a copy too."""
    shutil.copytree(run_folder, folder / "run")
    shutil.copytree(dataset, folder / "data")
    origin = read_json(folder / "run" / "origin.json")
    write_json(folder / "run" / "origin.json", origin | {"dataset": str(folder / "data")})
    return folder / "run"


def test_a_dataset_that_is_another_since_training_has_no_test_part_of_the_run(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    run = Run.open(moved(run_folder, dataset_folder, tmp_path))
    assert evaluate(run)["requests"] == evaluate(Run.open(run_folder))["requests"]
    events = pq.read_table(tmp_path / "data" / "events.parquet")
    pq.write_table(events.slice(0, len(events) - 100), tmp_path / "data" / "events.parquet")
    with pytest.raises(BadInput, match=r"is no longer the dataset that .* was trained on.*--data"):
        evaluate(run)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # py4j's
def test_on_spark_a_run_is_judged_the_same(run_folder: Path, grown_dataset_folder: Path, spark_master: str) -> None:
    run, other = Run.open(run_folder), Dataset.open(grown_dataset_folder)
    assert evaluate(run, other, engine=choose_engine("spark", spark_master)) == evaluate(run, other)
