"""An approximate index, from the recipe to the server; scann has no wheel for ARM."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.errors import BadInput
from pipelines.export_gate import EXTRA, MANIFEST
from pipelines.run import Run
from pipelines.saved_model import export
from towers.retrieval import ExactIndex, ScannIndex
from towers.runtime import tf

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="scann has no wheel for this processor")

LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(scope="module")
def clustered() -> SimpleNamespace:
    """Six thousand items around three hundred topics, some of them not on offer, and thirty users."""
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(300, 32))
    items = (topics[rng.integers(0, 300, 6000)] + 0.5 * rng.normal(size=(6000, 32))).astype(np.float32)
    users = (topics[:30] + 0.5 * rng.normal(size=(30, 32))).astype(np.float32)
    offer = rng.random(6000) < 0.9
    rows = np.concatenate([np.zeros((1, 32), np.float32), items])
    exact = ExactIndex(tf.Variable(rows), tf.Variable([False, *offer]))
    return SimpleNamespace(users=tf.constant(users), offer=offer, exact=exact, scann=ScannIndex(items, offer, 100))


def test_the_best_are_found_with_their_exact_scores(clustered: SimpleNamespace) -> None:
    nothing = tf.zeros([30, 1], tf.int32)
    expected = clustered.exact(clustered.users, nothing)[0].numpy()
    scores, rows = (each.numpy() for each in clustered.scann(clustered.users, nothing))
    there = scores > LOWEST
    assert there.sum(axis=1).min() >= 100
    np.testing.assert_allclose(scores[there], np.take_along_axis(expected, rows, axis=1)[there], rtol=1e-5, atol=1e-5)
    assert clustered.offer[rows[there] - 1].all()
    best = np.argsort(-expected, axis=1)[:, :10]
    assert np.mean([np.isin(row, found).mean() for row, found in zip(best, rows, strict=True)]) > 0.95


def test_what_is_hidden_is_not_found(clustered: SimpleNamespace) -> None:
    best = tf.math.top_k(clustered.exact(clustered.users, tf.zeros([30, 1], tf.int32))[0], 5).indices
    scores, rows = (each.numpy() for each in clustered.scann(clustered.users, best))
    for hidden, row, score in zip(best.numpy(), rows, scores, strict=True):
        assert not np.isin(hidden, row[score > LOWEST]).any()


def test_it_is_exported_marked_and_served(ranked_run_folder: Path, tmp_path: Path) -> None:
    """The gate inside asks the graph in a fresh process and the model server by REST and gRPC."""
    version = export(Run.open(ranked_run_folder), tmp_path / "model", index="scann")
    manifest: dict[str, Any] = json.loads((version / EXTRA / MANIFEST).read_text())
    assert manifest["needs"] == ["scann"]
    assert manifest["gate"]["agree"] == ["Python", "SavedModel", "REST", "gRPC"]
    assert b"Scann>" in (version / "saved_model.pb").read_bytes()


def test_an_index_that_finds_too_little_is_not_published(
    ranked_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(ranked_run_folder)
    found = ScannIndex.__call__

    def forgetful(self: ScannIndex, user: tf.Tensor, hidden: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores, rows = found(self, user, hidden)
        return tf.where(rows % 3 == 0, LOWEST, scores), rows

    monkeypatch.setattr(ScannIndex, "__call__", forgetful)
    with pytest.raises(AssertionError, match=r"of the exact first ten, and 95\.0% are asked for"):
        export(run, tmp_path / "model", index="scann")
    assert not list((tmp_path / "model").iterdir())


def test_without_the_package_there_is_one_sentence(
    ranked_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"scann is not installed: .*belfry\[scann\]"):
        export(Run.open(ranked_run_folder), tmp_path / "model", index="scann")
