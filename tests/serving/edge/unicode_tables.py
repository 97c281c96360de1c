"""What the served graph knows of Unicode, asked of its own operations: writes `serving/edge/unicode.json` anew.

RE2 and ICU, which TensorFlow and TF.Text link, each have a version of Unicode, and Python another. Run with the oldest
Python that Belfry supports, because `newer` holds what its `unicodedata` does not know:

    python -m tests.serving.edge.unicode_tables
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

FILE = Path(__file__).resolve().parents[3] / "serving" / "edge" / "unicode.json"
EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
CLASSES = {"marks": r"\p{Mn}", "punctuation": r"\p{P}", "control": r"\p{Cc}|\p{Cf}"}


def matching(pattern: str) -> set[str]:
    """The characters that RE2 finds to be of a class."""
    found = tf.strings.regex_full_match(tf.constant(EVERY), pattern).numpy()
    return {each for each, there in zip(EVERY, found, strict=True) if there}


def decomposed() -> dict[str, str]:
    """Every character in NFD, by ICU."""
    return dict(zip(EVERY, _decoded(tf_text.normalize_utf8(tf.constant(EVERY), "NFD")), strict=True))


def folded() -> dict[str, str]:
    """Every character case-folded, by ICU."""
    return dict(zip(EVERY, _decoded(tf_text.case_fold_utf8(tf.constant(EVERY))), strict=True))


def combining_classes() -> dict[str, int]:
    """The canonical combining classes that `unicodedata` does not have: found by what ICU orders before what."""
    probes = {unicodedata.combining(each): each for each in EVERY if unicodedata.combining(each)}
    last = probes[240]
    unknown = [each for each, text in decomposed().items() if unicodedata.category(each) == "Cn" and text == each]
    moved = _decoded(tf_text.normalize_utf8(tf.constant([f"a{last}{each}" for each in unknown]), "NFD"))
    found = {}
    for each in (each for each, text in zip(unknown, moved, strict=True) if text != f"a{last}{each}"):
        # It stays behind a mark of a class up to its own.
        order = sorted(probes)
        behind = _decoded(tf_text.normalize_utf8(tf.constant([f"a{probes[one]}{each}" for one in order]), "NFD"))
        found[each] = max(one for one, text in zip(order, behind, strict=True) if text.endswith(each))
    return found


def _decoded(texts: tf.Tensor) -> list[str]:
    return [text.decode() for text in texts.numpy()]


def _ranges(characters: set[str]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def tables() -> dict[str, Any]:
    from serving.edge.unicode import python_fold

    return {
        **{name: _ranges(matching(pattern)) for name, pattern in CLASSES.items()},
        "newer": {
            "decomposed": {
                each: text for each, text in decomposed().items() if text != unicodedata.normalize("NFD", each)
            },
            "folded": {each: text for each, text in folded().items() if text != python_fold(each)},
            "combining": combining_classes(),
        },
    }


if __name__ == "__main__":
    found = tables()
    newer = {name: {f"{ord(key):x}": value for key, value in values.items()} for name, values in found["newer"].items()}
    FILE.write_text(json.dumps({**found, "newer": newer}, separators=(",", ":")) + "\n", encoding="utf-8")
