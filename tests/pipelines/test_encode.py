from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import encode
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.encode import load_encoder, text_vectors
from pipelines.errors import BadInput
from pipelines.recipe import Text


@pytest.fixture
def text(tiny_preset: str) -> Text:
    return Text(preset=tiny_preset, max_tokens=12)


def test_vectors_do_not_depend_on_order_or_repetition(text: Text) -> None:
    texts = np.array(["storm", "goal in the cup match", "", "storm", "bread and wine"], dtype=object)
    vectors = text_vectors(texts, text)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    np.testing.assert_array_equal(vectors[2], 0)
    order = np.array([4, 2, 0, 1, 3])
    np.testing.assert_allclose(text_vectors(texts[order], text), vectors[order], atol=1e-6)


def test_known_texts_are_not_encoded_again(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = np.array(["ferry", "oven"], dtype=object)
    first = text_vectors(texts, text)
    monkeypatch.setattr(encode, "load_encoder", lambda _: pytest.fail("encoded again"))
    np.testing.assert_array_equal(text_vectors(texts[::-1], text), first[::-1])


def test_another_length_is_another_encoding(text: Text) -> None:
    texts = np.array(["storm wind rain flood coast minister vote budget"], dtype=object)
    short = text_vectors(texts, text.model_copy(update={"max_tokens": 4}))
    assert not np.allclose(short, text_vectors(texts, text))


def test_one_long_text_does_not_make_room_for_every_text_at_its_length(tmp_path: Path, monkeypatch: Any) -> None:
    class Lengths:
        width = 1

        def encode(self, texts: Any) -> Any:
            from towers.runtime import tf

            return tf.cast(tf.strings.length(texts), tf.float32)[:, None]

    monkeypatch.setenv("BELFRY_CACHE", str(tmp_path))
    texts = np.array(["x" * 60_000, *(f"text {number % 1000}" for number in range(2000))], dtype=object)
    encode.encode(texts, Lengths(), "lengths")
    tracemalloc.start()
    found = encode.encode(texts, Lengths(), "lengths")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found[:, 0], [len(text) for text in texts])
    assert peak < 20e6  # at 60,000 characters each they would be 480 MB


def test_a_catalogue_is_read_as_the_served_graph_reads_it(text: Text, dataset_folder: Path) -> None:
    from towers.runtime import tf
    from towers.text import join_fields

    catalogue = Catalogue.load(Dataset.open(dataset_folder))
    joined = join_fields(tf.constant(list(catalogue.title)), tf.constant(list(catalogue.body))).numpy()
    assert [each.decode() for each in joined] == list(catalogue.text)
    encoder = load_encoder(text)
    served = encoder.encode(tf.constant(joined)).numpy()
    np.testing.assert_allclose(text_vectors(catalogue.text, text), served, atol=1e-6)


def test_a_folder_that_is_no_preset_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no text preset that keras-hub can load"):
        load_encoder(Text(preset=str(tmp_path), max_tokens=12))


def test_a_hub_out_of_reach_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # A real preset name, asked through a proxy that is not there: unreachable on every machine.
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(BadInput, match="the hub of the text preset 'bert_tiny_en_uncased' cannot be reached"):
        load_encoder(Text(preset="bert_tiny_en_uncased", max_tokens=12))
