"""What a text preset knows of a language: retrieval of translations and topics on SIB-200 (Adelani et al. 2024).

`python -m benchmarks.languages [NAME=]PRESET ...`; without any, `minilm` and what $BELFRY_PRESETS names in the same
way, separated by spaces. A preset is a folder or a name that keras-hub knows.

Does not judge a fine-tuned recommender: the encoders are frozen.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.sources import NotHere, source
from pipelines.artefacts import atomic_file, write_json

RESULTS = Path(__file__).parent / "results"
LANGUAGES = {
    "eng_Latn": "English",
    "deu_Latn": "German",
    "fra_Latn": "French",
    "spa_Latn": "Spanish",
    "por_Latn": "Portuguese",
    "zho_Hans": "Chinese",
    "arb_Arab": "Arabic",
    "hin_Deva": "Hindi",
}
_ENGLISH = "eng_Latn"
_PARTS = ("train", "dev", "test")
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
_MAX_TOKENS = 256
_SEED = 17
NGRAMS = "character n-grams"


def run(presets: dict[str, str] | None = None, results: Path = RESULTS) -> int:
    """Judge the presets and write languages.md and languages.json; returns how many could not be loaded."""
    try:
        data = source("sib200")
    except NotHere as missing:
        print(missing)
        return 0
    from pipelines.errors import BadInput

    if presets is None:
        presets = {"minilm": "minilm", **named(os.environ.get("BELFRY_PRESETS", "").split())}
    if set(presets.values()) == {"minilm"}:
        print("only minilm is judged: name further presets in BELFRY_PRESETS, such as mbert=FOLDER, to compare them")
    sentences = read(data)
    found: dict[str, Any] = {NGRAMS: judge(sentences, _ngrams(sentences), {})}
    failed = 0
    for name, preset in presets.items():
        try:
            found[name] = judge(sentences, *_encoded(sentences, preset))
        except BadInput as error:
            print(f"{name} is left out: {error}")
            failed += 1
    write_json(results / "languages.json", {"max_tokens": _MAX_TOKENS, "presets": found})
    with atomic_file(results / "languages.md") as draft:
        draft.write_text(markdown(found), encoding="utf-8")
    print("\n".join(compact(found)))
    return failed


def named(words: list[str]) -> dict[str, str]:
    """`NAME=PRESET` words, or presets alone, which are named by their last part."""
    pairs = (word.split("=", 1) if "=" in word else (word.rstrip("/").split("/")[-1], word) for word in words)
    return dict(pairs)


def read(folder: Path) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """(text, topic) by language and part, in the same order of sentences for all languages.

    Raises:
        ValueError: The languages do not hold the same sentences.
    """
    found = {}
    ids = set()
    for language in LANGUAGES:
        parts = {}
        for part in _PARTS:
            with (folder / language / f"{part}.tsv").open(encoding="utf-8", newline="") as file:
                rows = sorted(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), key=lambda r: r["index_id"])
            parts[part] = [(row["text"], row["category"]) for row in rows]
            ids.add((part, *((row["index_id"], row["category"]) for row in rows)))
        found[language] = parts
    if len(ids) != len(_PARTS):
        raise ValueError("the languages of sib200 do not hold the same sentences")
    return found


def judge(sentences: Any, vectors: dict[str, Any], tokens: dict[str, Any]) -> dict[str, Any]:
    """All figures of one encoder, by language.

    Args:
        vectors: (N, D) rows of unit length by language, all parts one after the other.
        tokens: What is known of each language's tokens, which is passed on.
    """
    from pipelines.metrics import bootstrap

    result = {}
    sizes = [len(sentences[_ENGLISH][part]) for part in _PARTS]
    train, test = slice(0, sizes[0]), slice(sizes[0] + sizes[1], None)
    topics = np.array([topic for part in _PARTS for _, topic in sentences[_ENGLISH][part]])
    for language in LANGUAGES:
        there, own = vectors[_ENGLISH], vectors[language]
        values = {
            "from_english": _found(there, own),
            "to_english": _found(own, there),
        }
        tests = {
            "topic_from_english": _topics(there, own, topics, sizes[0], test),
            "topic": _topics(own, own, topics, sizes[0], test),
        }
        estimates = {} if language == _ENGLISH else bootstrap(values, seed=_SEED)
        estimates |= bootstrap(tests, seed=_SEED)
        result[language] = {name: each.as_dict() for name, each in estimates.items()} | tokens.get(language, {})
    most = max(np.mean(topics[test] == topic) for topic in set(topics[train]))
    return {"languages": result, "chance": {"retrieval": 1 / len(topics), "topic": float(most)}}


def _found(queries: Any, candidates: Any) -> np.ndarray:
    """(N,) whether the nearest of all candidates is the translation; a tie counts for its share."""
    scores = queries @ candidates.T
    scores = np.asarray(scores.todense() if hasattr(scores, "todense") else scores)
    best = scores.max(axis=1, keepdims=True)
    # Equal vectors, as of two sentences of unknown words, must not win by their place.
    at_best = scores >= best - 1e-6
    return np.where(np.diag(at_best), 1 / at_best.sum(axis=1), 0.0)


def _topics(train: Any, test: Any, topics: np.ndarray, size: int, part: slice) -> np.ndarray:
    """(test rows,) whether a logistic regression on the training language names the topic; C chosen on its dev part."""
    from sklearn.linear_model import LogisticRegression

    dev = slice(size, part.start)
    models = [LogisticRegression(C=each, max_iter=2000).fit(train[:size], topics[:size]) for each in _STRENGTHS]
    best = max(models, key=lambda model: model.score(train[dev], topics[dev]))
    return (best.predict(test[part]) == topics[part]).astype(float)


def _texts(sentences: Any, language: str) -> list[str]:
    return [text for part in _PARTS for text, _ in sentences[language][part]]


def _ngrams(sentences: Any) -> dict[str, Any]:
    """No encoder at all: what names, numbers and cognates share between languages."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    vectoriser.fit([text for language in LANGUAGES for text in _texts(sentences, language)])
    return {language: vectoriser.transform(_texts(sentences, language)) for language in LANGUAGES}


def _encoded(sentences: Any, preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from pipelines.encode import encode, load_encoder
    from pipelines.presets import fingerprint, locate_preset
    from pipelines.recipe import Text

    text = Text(preset=preset, max_tokens=_MAX_TOKENS)
    encoder = load_encoder(text)
    version = f"{fingerprint(locate_preset(preset))} {_MAX_TOKENS} {text.pooling}"
    texts = {language: np.array(_texts(sentences, language), dtype=object) for language in LANGUAGES}
    rows = np.split(encode(np.concatenate(list(texts.values())), encoder, version), len(texts))
    vectors = dict(zip(texts, rows, strict=True))
    tokens = {language: _tokens(encoder, each) for language, each in texts.items()}
    for each in tokens.values():
        each["tokens_to_english"] = each["tokens"] / tokens[_ENGLISH]["tokens"]
    return vectors, tokens


def _tokens(encoder: Any, texts: np.ndarray) -> dict[str, float]:
    """Tokens a sentence, the special ones left out; and the share of them that is unknown."""
    from towers.masked_language_model import special_ids
    from towers.runtime import tf

    found = encoder.tokenize(tf.constant(list(texts)))
    ids = found["token_ids"].numpy()[found["padding_mask"].numpy().astype(bool)]
    tokenizer = encoder.preprocessor.tokenizer
    ends = {tokenizer.start_token_id, tokenizer.end_token_id}
    inside = ids[~np.isin(ids, list(ends))]
    unknown = sorted(set(special_ids(tokenizer)) - ends)
    return {"tokens": len(inside) / len(texts), "unknown": float(np.isin(inside, unknown).mean())}


def compact(found: dict[str, Any]) -> list[str]:
    """A table with a row for each encoder and measure, a column for each language, in per cent."""
    measures = {
        "from_english": "English → language",
        "to_english": "language → English",
        "topic_from_english": "topic, learned in English",
        "topic": "topic, learned in the language",
    }
    lines = ["| | | " + " | ".join(LANGUAGES.values()) + " |", "|---" * (len(LANGUAGES) + 2) + "|"]
    for name, each in found.items():
        rows = each["languages"]
        for measure, title in measures.items():
            cells = [f"{100 * rows[key][measure]['mean']:.1f}" if measure in rows[key] else "" for key in LANGUAGES]
            lines.append(f"| {name} | {title} | " + " | ".join(cells) + " |")
        if "unknown" in rows[_ENGLISH]:
            cells = [f"{100 * rows[key]['unknown']:.1f}" for key in LANGUAGES]
            lines.append(f"| {name} | tokens that are unknown | " + " | ".join(cells) + " |")
            cells = [f"{100 * rows[key]['tokens_to_english']:.0f}" for key in LANGUAGES]
            lines.append(f"| {name} | tokens for 100 of English | " + " | ".join(cells) + " |")
    return lines


def markdown(found: dict[str, Any]) -> str:
    """The report: what was measured, the table, and how sure it is."""
    first = next(iter(found.values()))
    retrieval = first["languages"]["deu_Latn"]["from_english"]["count"]
    topic = first["languages"][_ENGLISH]["topic"]["count"]
    return (
        "# languages\n\n"
        "Written by `python -m benchmarks languages`. SIB-200, all figures in per cent: how often the nearest of "
        f"{retrieval:,} sentences (cosine) is the translation, and how often a logistic regression over the frozen "
        f"vectors names the topic of {topic} sentences. By chance: {100 * first['chance']['retrieval']:.1f} and "
        f"{100 * first['chance']['topic']:.1f}. 95 % intervals are at most ±{_widest(found, 'from_english'):.1f} for "
        f"retrieval and ±{_widest(found, 'topic'):.1f} for topics; they are in languages.json.\n\n"
        "`character n-grams` is no encoder: it shows what names, numbers and cognates give away.\n\n"
        + "\n".join(compact(found))
        + "\n"
    )


def _widest(found: dict[str, Any], measure: str) -> float:
    rows = [row[measure] for each in found.values() for row in each["languages"].values() if measure in row]
    return max(50 * (row["high"] - row["low"]) for row in rows)


if __name__ == "__main__":
    sys.exit(run(named(sys.argv[1:]) or None))
