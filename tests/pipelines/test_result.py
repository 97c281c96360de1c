"""What a step returns, for programs, readers and plots."""

from __future__ import annotations

import json

from pipelines.ablation import table_rows as ablation_rows
from pipelines.evaluation import table_rows
from pipelines.folds import table_rows as fold_rows
from pipelines.result import Result


def test_it_is_the_dict_it_was_made_of() -> None:
    found = Result({"b": [1]}, lambda values: [f"b is {values['b']}"])
    assert json.loads(json.dumps(found)) == found == {"b": [1]}
    assert str(found) == "b is [1]"
    assert found.rows() == []


def test_a_table_of_an_evaluation_has_a_row_for_each_number() -> None:
    value = {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    lead = {"mean": 0.1, "low": 0.0, "high": 0.2, "count": 9}
    table = {"metrics": {"two-tower": {"auc": value}, "popularity": {"auc": value}}}
    table |= {"difference": {"popularity": {"auc": lead}}}
    rows = table_rows({"slates": table | {"slices": {"new users": table}}})
    assert [(row["slice"], row["ranker"], row["lead_mean"]) for row in rows] == [
        ("all", "two-tower", None),
        ("all", "popularity", 0.1),
        ("new users", "two-tower", None),
        ("new users", "popularity", 0.1),
    ]
    assert {row["part"] for row in rows} == {"slates"}


def test_so_have_those_of_folds_and_of_variants() -> None:
    fold = {"test": {"auc": 0.6}, "training": {"auc": 0.7}, "examples": 12, "best_epoch": 1}
    assert fold_rows({"folds": [fold, fold]})[1] == {
        "fold": 1,
        "metric": "auc",
        "training": 0.7,
        "test": 0.6,
        "examples": 12,
        "best_epoch": 1,
    }
    value = {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    variants = {"as it is": {"metrics": {"auc": value}}, "a": {"metrics": {"auc": value}, "worth": {"auc": value}}}
    rows = ablation_rows({"variants": variants})
    assert [(row["variant"], row["worth_low"]) for row in rows] == [("as it is", None), ("a", 0.4)]
