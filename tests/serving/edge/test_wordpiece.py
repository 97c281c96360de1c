from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.presets import locate_preset
from serving.edge.unicode import decompose, fold_case
from serving.edge.wordpiece import WordPiece, join_fields, strip
from tests.serving.edge.unicode_tables import EVERY, decomposed, folded
from towers.runtime import keras_hub, tf
from towers.text import TextEncoder
from towers.text import join_fields as join_in_graph

TOKENS = 48
Tokenise = Callable[[list[str | bytes]], list[tuple[list[int], list[int]]]]


def in_graph(preprocessor: Any) -> Tokenise:
    """A keras-hub preprocessor inside a graph, as it is served: outside of one, keras-hub has another tokeniser."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def graph(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = preprocessor(texts)
        return found["token_ids"], tf.cast(found["padding_mask"], tf.int32)

    def tokenise(texts: list[str | bytes]) -> list[tuple[list[int], list[int]]]:
        raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
        ids, mask = graph(tf.constant(raw))
        return list(zip(ids.numpy().tolist(), mask.numpy().tolist(), strict=True))

    return tokenise


def outside(tokenizer: Any) -> WordPiece:
    return WordPiece(
        tokenizer.get_vocabulary(), TOKENS, lowercase=tokenizer.lowercase, strip_accents=tokenizer.strip_accents
    )


@pytest.fixture(scope="module", params=["minilm", "tiny"])
def both(request: pytest.FixtureRequest, tiny_preset: str) -> tuple[Tokenise, WordPiece]:
    """The tokeniser of a text encoder, in the graph and outside of it."""
    preset = locate_preset("minilm") if request.param == "minilm" else tiny_preset
    preprocessor = TextEncoder(preset, max_tokens=TOKENS).preprocessor
    return in_graph(preprocessor), outside(preprocessor.tokenizer)


@pytest.fixture(scope="module", params=[(False, False), (True, False), (False, True)])
def other(request: pytest.FixtureRequest) -> tuple[Tokenise, WordPiece]:
    """Tokenisers that keep case, accents, or both, with a vocabulary of single characters."""
    lowercase, strip_accents = request.param
    letters = [*"abcxyzABCXYZéÉßſİıﬁ中文한ἁᾳιΙ0129.,-!…", "\u0301", "\u0345", "\ufffd", "\u00a0"]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{each}" for each in letters),
        "ab",
        "##ab",
    ]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=lowercase, strip_accents=strip_accents)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=TOKENS)
    return in_graph(preprocessor), outside(tokenizer)


def agree(both: tuple[Tokenise, WordPiece], texts: list[str]) -> None:
    graph, wordpiece = both
    for text, expected in zip(texts, graph(list(texts)), strict=True):
        assert wordpiece.encode(text) == expected, ascii(text)


ODD = [
    "",
    " \t\r\n\v\f",
    "Café ÉTÉ naïve Ångström ﬁle ſtraße İstanbul",
    "北京の天気は晴れ、서울 날씨",
    "עברית וערבית العَرَبِيَّة\u200f\u202e",
    "👩‍👩‍👧 🏳️‍🌈 🇩🇪 emoji\ufe0f",
    "a\x00b\x01c\x7fd\u0085e\u00adf\u200bg\ufeffh\u2028i\u3000j\u00a0k",
    "x" * 100,
    "x" * 101,
    "é" * 51 + " " + "ש" * 50 + " " + "ש" * 51,
    "a" * 10_000,
    "storm, " * 1_500,
    "[CLS] [SEP] [PAD] [UNK] ##ing",
    "don't ... $5.00 ^_^ `x` …",
    "\u0301\u0301 combining first",
    "ﷺ ㎏ ½ ＡＢＣ ﬀ",
    "\U0001ccd6\U0001e030 \U000105c9 \U00016126",
]


def test_odd_texts_become_the_tokens_of_the_graph(both: tuple[Tokenise, WordPiece]) -> None:
    agree(both, ODD)


def test_odd_texts_whatever_the_tokeniser_keeps(other: tuple[Tokenise, WordPiece]) -> None:
    agree(other, ODD)


ALPHABETS = [
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("abc ABC.,!?-'#[]()12\t\n\x00\x1f\x7f\u00a0\u00ad\u200b\u200d\u202e\ufeff\ufe0f"),
    st.characters(min_codepoint=0x300, max_codepoint=0x36F),
    st.characters(categories=["Mn", "Mc", "Me"]),
    st.characters(min_codepoint=0x590, max_codepoint=0x8FF, exclude_categories=["Cs"]),
    st.characters(min_codepoint=0x3000, max_codepoint=0x9FFF),
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3),
    st.characters(min_codepoint=0x1100, max_codepoint=0x11FF),
    st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF),
    st.characters(min_codepoint=0x11380, max_codepoint=0x16140),
    st.characters(min_codepoint=0x1CC00, max_codepoint=0x1E4FF),
]
TEXTS = st.lists(st.text(st.one_of(ALPHABETS), max_size=40), min_size=1, max_size=8)


@settings(max_examples=250, deadline=None)
@given(texts=TEXTS)
def test_every_text_becomes_the_tokens_of_the_graph(both: tuple[Tokenise, WordPiece], texts: list[str]) -> None:
    agree(both, texts)


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_every_text_whatever_the_tokeniser_keeps(other: tuple[Tokenise, WordPiece], texts: list[str]) -> None:
    agree(other, texts)


@settings(max_examples=100, deadline=None)
@given(raw=st.lists(st.binary(max_size=30), min_size=1, max_size=8))
def test_bytes_that_are_not_utf8_become_replacement_characters(
    both: tuple[Tokenise, WordPiece], raw: list[bytes]
) -> None:
    graph, wordpiece = both
    assert [wordpiece.encode(text.decode("utf-8", "replace")) for text in raw] == graph(list(raw))


def test_half_a_surrogate_pair_is_a_replacement_character(both: tuple[Tokenise, WordPiece]) -> None:
    assert both[1].encode("storm \ud800") == both[1].encode("storm \ufffd\ufffd\ufffd")


def test_every_character_is_decomposed_and_folded_as_by_the_graph() -> None:
    assert [each for each, text in decomposed().items() if decompose(each) != text] == []
    assert [each for each, text in folded().items() if fold_case(each) != text] == []


def test_every_character_that_there_is_splits_words_as_in_the_graph(both: tuple[Tokenise, WordPiece]) -> None:
    graph, wordpiece = both
    # What no version of Unicode knows is alike; the tables' own edges are covered by those that one does.
    texts = [f"a{each}b" for each in EVERY if unicodedata.category(each) not in ("Co", "Lo") or ord(each) < 0x3400]
    for start in range(0, len(texts), 1 << 15):
        some = texts[start : start + (1 << 15)] if start < 1 << 17 else texts[start : start + (1 << 15) : 9]
        assert [wordpiece.encode(text) for text in some] == graph(list(some))


@settings(max_examples=100, deadline=None)
@given(title=st.text("ab \t\n\v\f\r\u00a0\u2003", max_size=6), body=st.text("b \n\v", max_size=6))
def test_fields_are_joined_and_stripped_as_in_the_graph(title: str, body: str) -> None:
    assert join_fields(title, body) == join_in_graph(tf.constant([title]), tf.constant([body])).numpy()[0].decode()
    assert strip(title) == tf.strings.strip(title).numpy().decode()


def test_a_vocabulary_without_a_special_token_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        WordPiece(["[PAD]", "[CLS]", "[SEP]"], 8, lowercase=True, strip_accents=True)
    with pytest.raises(ValueError, match="no room"):
        WordPiece(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], 1, lowercase=True, strip_accents=True)
