"""Unicode as the served graph knows it: NFD and case folding of ICU, character classes of RE2.

Python's own tables are of another version of Unicode, which differs with Python's. `unicode.json` holds the classes
whole, and what is newer than Python 3.11's tables, as the operations of the graph gave them.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

_TABLES: dict[str, Any] = json.loads(Path(__file__).with_name("unicode.json").read_text(encoding="utf-8"))


def character_class(*names: str) -> str:
    """`marks`, `punctuation`, `control` as the inside of a regular expression's brackets."""
    ranges = [pair for name in names for pair in _TABLES[name]]
    return "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)


def _newer(name: str) -> dict[str, Any]:
    return {chr(int(code, 16)): value for code, value in _TABLES["newer"][name].items()}


_DECOMPOSED: dict[str, str] = _newer("decomposed")
_FOLDED: dict[str, str] = _newer("folded")
_COMBINING: dict[str, int] = _newer("combining")
_COMPOSED: dict[str, str] = {}
for _whole, _text in sorted(_DECOMPOSED.items(), key=lambda pair: len(pair[1])):
    # A decomposition is whole; what composes are pairs.
    _COMPOSED[_COMPOSED.get(_text[:-1], _text[:-1]) + _text[-1]] = _whole
# Also what newer pairs are made of: what composes with a newer mark need not be newer itself.
_NEWER = re.compile(f"[{re.escape(''.join({*_DECOMPOSED, *_FOLDED, *_COMBINING, *''.join(_COMPOSED)}))}]")
# Default_Ignorable_Code_Point, which NFKC_Casefold removes.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def decompose(text: str) -> str:
    """NFD."""
    if text.isascii():
        return text
    if not _NEWER.search(text):
        return unicodedata.normalize("NFD", text)
    return _ordered("".join(map(_decomposed, text)))


def fold_case(text: str) -> str:
    """NFKC_Casefold: compatible characters and cases become one, what is invisible goes."""
    if text.isascii():
        return text.lower()
    folded = "".join(map(_folded, text))
    if not _NEWER.search(text) and not _NEWER.search(folded):
        return unicodedata.normalize("NFC", folded)
    return _composed(decompose(folded))


@functools.lru_cache(maxsize=1 << 14)
def _folded(character: str) -> str:
    return _FOLDED.get(character) or python_fold(character)


def python_fold(character: str) -> str:
    """One character's folding by Python's tables alone."""
    if _IGNORABLE.match(character):
        return ""
    return _IGNORABLE.sub("", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold()))


def _decomposed(character: str) -> str:
    return _DECOMPOSED.get(character) or unicodedata.normalize("NFD", character)


def _combining(character: str) -> int:
    return _COMBINING.get(character) or unicodedata.combining(character)


def _ordered(text: str) -> str:
    """Canonical order: runs of combining marks sorted by their class."""
    found: list[str] = []
    marks: list[str] = []
    for each in text:
        if _combining(each):
            marks.append(each)
            continue
        found += sorted(marks, key=_combining)
        found.append(each)
        marks = []
    return "".join([*found, *sorted(marks, key=_combining)])


def _composed(text: str) -> str:
    """Canonical composition (UAX 15) of a text in canonical order."""
    found: list[str] = []
    starter, last = -1, 0
    for each in text:
        own = _combining(each)
        adjacent = starter == len(found) - 1
        if starter >= 0 and (adjacent or (last < own and last != 0)):
            whole = _pair(found[starter], each)
            if whole:
                found[starter] = whole
                continue
        if own == 0:
            starter = len(found)
        last = own
        found.append(each)
    return "".join(found)


def _pair(first: str, second: str) -> str | None:
    whole = _COMPOSED.get(first + second) or unicodedata.normalize("NFC", first + second)
    return whole if len(whole) == 1 else None
