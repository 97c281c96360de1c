"""The issue's bars on public data, whenever it is on this machine; it is never part of the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.evaluation import evaluate
from pipelines.run import Run
from recipes import shipped


@pytest.fixture(scope="module")
def public_data() -> Path:
    root = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("BELFRY_DATA") or root)
    if not folder.is_dir():
        pytest.skip("the public data sets are not on this machine and may not be distributed")
    return folder


def without_unread_articles(source: Path, copy: Path) -> Path:
    """MIND's files, without the articles that no line names: to encode them takes long, and changes no score here."""
    copy.mkdir()
    behaviors = (source / "behaviors.tsv").read_text(encoding="utf-8")
    named = set(re.findall(r"\bN\d+", behaviors))
    with (source / "news.tsv").open(encoding="utf-8", newline="\n") as news:
        kept = [line for line in news if line.partition("\t")[0] in named]
    (copy / "news.tsv").write_text("".join(kept), encoding="utf-8", newline="\n")
    (copy / "behaviors.tsv").write_text(behaviors, encoding="utf-8")
    return copy


def test_mind_a_trained_model_ranks_above_the_frozen_encoder_and_tfidf(public_data: Path, tmp_path: Path) -> None:
    for part in ("train", "dev"):
        source = without_unread_articles(public_data / "mind-mini" / part, tmp_path / f"{part}-files")
        assert belfry(["data", "import", "mind", str(source), str(tmp_path / part)]) == 0
    trained = ["train", str(shipped("news")), "--data", str(tmp_path / "train"), "--out", str(tmp_path / "run")]
    assert belfry(trained) == 0
    slates = evaluate(Run.open(tmp_path / "run"), Dataset.open(tmp_path / "dev"))["slates"]
    for metric in ("auc", "ndcg@10"):
        for stage in ("two-stage", "two-tower"):
            model = slates["metrics"][stage][metric]["mean"]
            assert model > slates["metrics"]["frozen text cosine"][metric]["mean"]
        assert slates["difference"]["tf-idf profile"][metric]["low"] > 0
    # The second stage leads, with the paired interval clear of zero.
    for baseline in ("two-tower", "frozen text cosine"):
        assert slates["difference"][baseline]["auc"]["low"] > 0
    assert slates["metrics"]["two-stage"]["auc"]["count"] == 1416


def test_ml100k_a_trained_model_ranks_above_popularity_and_itemknn(public_data: Path, tmp_path: Path) -> None:
    source = str(public_data / "ml100k")
    assert belfry(["data", "import", "movielens", source, str(tmp_path / "data")]) == 0
    # The shipped recipe on the newest part of every user's ratings: the whole takes minutes (python -m benchmarks).
    quick = shipped("ids").read_text().replace("epochs: 8", "epochs: 3\n  max_examples_per_user: 30")
    (tmp_path / "quick.yaml").write_text(quick)
    trained = ["train", str(tmp_path / "quick.yaml"), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert belfry(trained) == 0
    catalogue = evaluate(Run.open(tmp_path / "run"))["catalogue"]
    assert catalogue["metrics"]["two-tower"]["recall@100"]["count"] == 943
    for baseline in ("popularity", "itemKNN"):
        for metric in ("recall@100", "ndcg@10"):
            assert catalogue["difference"][baseline][metric]["low"] > 0


def test_titles_and_sentences_become_the_same_tokens_on_the_edge_as_in_the_graph(public_data: Path) -> None:
    import csv

    from pipelines.presets import locate_preset
    from serving.edge.wordpiece import WordPiece
    from towers.runtime import tf
    from towers.text import TextEncoder

    texts = []
    for path in sorted(public_data.glob("mind-mini/*/news.tsv")):
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            texts += line.split("\t")[3:5]  # title and abstract
    for path in sorted(public_data.glob("sib200/*/*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            texts += [row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(texts) > 20_000
    preprocessor = TextEncoder(locate_preset("minilm"), max_tokens=512).preprocessor
    graph = tf.function(
        lambda some: preprocessor(some)["token_ids"], input_signature=[tf.TensorSpec([None], tf.string)]
    )
    edge = WordPiece(preprocessor.tokenizer.get_vocabulary(), 512, lowercase=True, strip_accents=True)
    for start in range(0, len(texts), 512):
        some = texts[start : start + 512]
        assert [edge.encode(text)[0] for text in some] == graph(tf.constant(some)).numpy().tolist()
