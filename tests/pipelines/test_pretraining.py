"""Continued pre-training for real, on tiny presets and texts whose words keep company."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.pretraining import PRETRAINING, _Texts, _verify, pretrain
from pipelines.recipe import Text

TOPICS = (
    ["storm", "harbour", "closes", "ferry", "wind", "rain", "flood", "coast"],
    ["minister", "vote", "budget", "parliament", "tax", "law"],
    ["striker", "goal", "league", "coach", "cup", "match"],
    ["recipe", "bread", "oven", "salt", "dinner", "wine"],
)

SETTINGS: dict[str, Any] = {"epochs": 5, "batch_size": 16, "learning_rate": 5e-3, "max_tokens": 12, "validation": 0.2}


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    """300 texts, each of one topic's words, and an item without text."""
    rng = np.random.default_rng(3)
    items = [
        {"item_id": f"i{number:03}", "title": " ".join(rng.choice(TOPICS[number % 4], 4)), "language": "en"}
        | {"body": " ".join(rng.choice(TOPICS[number % 4], 5))}
        for number in range(300)
    ]
    events = [{"user_id": "u", "item_id": f"i{number:03}", "kind": "click", "at": number} for number in range(3)]
    return make_dataset(events, [*items, {"item_id": "j"}])


@pytest.fixture(scope="module")
def pretrained(dataset: Dataset, tiny_preset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "preset"
    pretrain(dataset, out, preset=tiny_preset, **SETTINGS)
    return out


def vectors(preset: str | Path, texts: list[str]) -> np.ndarray:
    from towers.runtime import tf

    return load_encoder(Text(preset=str(preset), max_tokens=12)).encode(tf.constant(texts)).numpy()


def test_one_long_text_does_not_make_room_for_every_text_at_its_length(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"item_id": f"i{number}", "title": f"text {number}"} for number in range(2000)]
    items[0]["body"] = "long " * 12_000
    dataset = make_dataset([{"user_id": "u", "item_id": "i1", "kind": "click", "at": 1}], items)

    def stop(text: Text) -> None:
        raise BadInput("far enough")

    monkeypatch.setattr("pipelines.pretraining.load_encoder", stop)
    tracemalloc.start()
    with pytest.raises(BadInput, match="far enough"):
        pretrain(dataset, tmp_path / "preset")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # at 60,000 characters each they would be 480 MB


def test_words_of_a_topic_become_easier_to_guess(pretrained: Path) -> None:
    found = json.loads((pretrained / PRETRAINING).read_text())
    assert found["perplexity"][0] < np.exp(found["untrained_head_loss"])
    # The head alone knows how frequent a word is; which topic it is of, only the encoder can tell.
    assert min(found["perplexity"]) < 0.5 * found["perplexity"][0]
    assert min(found["loss"]) == found["loss"][found["best_epoch"]]
    assert (found["texts"], found["held_out_texts"], found["items_without_text"]) == (240, 60, 1)


def test_the_folder_is_a_preset_that_strips_accents_as_before(pretrained: Path) -> None:
    found = vectors(pretrained, ["störm in the harbour", "storm in the harbour"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    tokenizer = json.loads((pretrained / "tokenizer.json").read_text())
    assert tokenizer["config"]["strip_accents"] is True


def test_same_seed_same_weights_in_place_of_an_older_result(
    pretrained: Path, dataset: Dataset, tiny_preset: str, tmp_path: Path
) -> None:
    shutil.copytree(pretrained, tmp_path / "preset")
    (tmp_path / "preset" / "metadata.json").write_text("{}")
    again = pretrain(dataset, tmp_path / "preset", preset=tiny_preset, **SETTINGS)
    assert again == json.loads((pretrained / PRETRAINING).read_text())
    texts = ["storm in the harbour", "late goal"]
    np.testing.assert_array_equal(vectors(tmp_path / "preset", texts), vectors(pretrained, texts))
    assert [path.name for path in tmp_path.iterdir()] == ["preset"]


def test_a_preset_of_other_weights_is_noticed(pretrained: Path, tiny_preset: str) -> None:
    encoder = load_encoder(Text(preset=tiny_preset, max_tokens=12))
    with pytest.raises(AssertionError, match="gives other vectors"):
        _verify(pretrained, encoder, 12, np.array(["storm", "goal"]))


def test_every_text_is_in_one_batch_and_held_out_masks_stay(tiny_preset: str) -> None:
    encoder = load_encoder(Text(preset=tiny_preset, max_tokens=12))
    given = [" ".join(["storm"] * length) for length in (3, 1, 7, 2, 5, 1, 9)]
    texts = _Texts(np.array(given), encoder, 3, seed=1)
    expected = sorted(each.count("storm") + 2 for each in given)
    for epoch in (None, 1):
        lengths = [tokens["padding_mask"].sum(axis=1) for tokens, _ in texts.batches(epoch)]
        assert sorted(np.concatenate(lengths)) == expected
        assert len(lengths) == len(texts) == 3
        for tokens, each in zip(texts.batches(epoch), lengths, strict=True):
            assert tokens[0]["token_ids"].shape[1] == max(each)
    seeds = [[each.tolist() for _, each in texts.batches(epoch)] for epoch in (None, None, 1, 2)]
    assert seeds[0] == seeds[1]
    assert seeds[2] != seeds[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 0.0}, "300 distinct texts, of which 0 would be held out"),
        ({"validation": 1.0}, "300 distinct texts, of which 300 would be held out"),
        ({"learning_rate": 0.0}, r"the learning rate must be above 0, not 0\.0"),
        ({"learning_rate": 1e4, "epochs": 1}, "diverged|no epoch guessed the held-out words better"),
        ({"preset": "no_such_preset_at_all"}, "text preset that keras-hub can load"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing(
    changes: dict[str, Any], message: str, dataset: Dataset, tiny_preset: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        pretrain(dataset, tmp_path / "preset", **{"preset": tiny_preset, **SETTINGS, **changes})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_folder_is_left_alone(dataset: Dataset, tiny_preset: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty"):
        pretrain(dataset, tmp_path, preset=tiny_preset, **SETTINGS)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_command_trains_a_multilingual_preset(
    dataset: Dataset, multilingual_preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pretrain", str(dataset.folder), "--out", str(tmp_path / "preset"), "--preset", multilingual_preset]
    options = ["--epochs", "1", "--learning-rate", "3e-3", "--max-tokens", "32", "--validation", "0.2", "--json"]
    assert belfry([*command, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best_epoch"] == 1
    assert found["settings"]["learning_rate"] == 3e-3
    assert found == json.loads((tmp_path / "preset" / PRETRAINING).read_text())
    assert vectors(tmp_path / "preset", ["Das Tor fällt spät"]).shape == (1, 16)
