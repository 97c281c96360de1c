"""WordPiece outside the graph: the same token ids as the served model's own tokeniser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.edge.unicode import character_class, decompose, fold_case

# TF.Text's `FastWordpieceTokenizer` gives up on words of more bytes.
_MAX_BYTES_PER_WORD = 100
_CJK = "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f"
_MARKS = re.compile(f"[{character_class('marks')}]")
# What is not a letter or a digit in ASCII is punctuation, "^", "$" and "`" too.
_PUNCTUATION = r"!-/:-@\[-`{-~" + character_class("punctuation")
# A word is one character that stands alone, or a run of others. RE2's \s is ASCII white space: wider spaces stay.
_WORDS = re.compile(
    f"[{_PUNCTUATION}{_CJK}]|[^ \\t\\n\\r\\f{character_class('control')}{_PUNCTUATION}{_CJK}]+", re.DOTALL
)
_STANDS_ALONE = re.compile(f"([{_CJK}])")
# What `tf.strings.strip` strips.
_BLANKS = " \t\n\v\f\r"


@dataclass(frozen=True)
class Special:
    """The tokens that frame a text, as the vocabulary spells them."""

    pad: str = "[PAD]"
    unknown: str = "[UNK]"
    start: str = "[CLS]"
    end: str = "[SEP]"


class WordPiece:
    """Texts to token ids, as keras-hub's BERT tokeniser and packer do in the graph.

    The text is decomposed (NFD) and loses its accents where `strip_accents`; is split at ASCII white space, control
    characters, punctuation and CJK characters, of which the last two stay as words; words are case-folded
    (NFKC_Casefold) where `lowercase`, and cut into the longest pieces of the vocabulary from left to right
    (Wu et al. 2016). A word with no such cut, or of more than 100 bytes, is unknown.

    What follows a NUL is not read, as in the graph. Special tokens in a text are text. Does not know SentencePiece or
    byte-pair vocabularies.

    Args:
        vocabulary: Tokens in the order of their ids; those inside a word start with "##".
        tokens: L, ids of a text with the two special ones: what is longer is cut.

    Raises:
        ValueError: A special token is not in the vocabulary, or L has no room for two.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        tokens: int,
        *,
        lowercase: bool,
        strip_accents: bool,
        special: Special = Special(),
    ) -> None:
        self._ids = {token: place for place, token in enumerate(vocabulary)}
        missing = [token for token in vars(special).values() if token not in self._ids]
        if missing:
            raise ValueError(f"the vocabulary lacks {missing[0]}")
        if tokens < 2:
            raise ValueError(f"{tokens} tokens have no room for {special.start} and {special.end}")
        self.tokens = tokens
        self._lowercase, self._strip_accents = lowercase, strip_accents
        self._special = special
        self._longest = max(len(token) for token in vocabulary)

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """A text to token ids and mask, both of length L; the mask is 0 at padding."""
        ids, special = self._ids, self._special
        found = [ids[special.start]]
        for word in self.words(text):
            found += self._pieces(word)
            if len(found) >= self.tokens:
                break
        found = [*found[: self.tokens - 1], ids[special.end]]
        pad = ids[special.pad]
        mask = [int(each != pad) for each in found]
        rest = self.tokens - len(found)
        return [*found, *[pad] * rest], [*mask, *[0] * rest]

    def words(self, text: str) -> Iterator[str]:
        """The words of a text, before they are cut into pieces."""
        # TF.Text takes the character NUL for the end of a text.
        text = text.encode("utf-8", "surrogatepass").partition(b"\0")[0].decode("utf-8", "replace")
        if self._strip_accents:
            # An accent on a CJK character must not join it: they stand alone before.
            text = _MARKS.sub("", decompose(_STANDS_ALONE.sub(r" \1 ", text)))
        for word in _WORDS.findall(text):
            yield fold_case(word) if self._lowercase else word

    def _pieces(self, word: str) -> list[int]:
        if len(word.encode()) > _MAX_BYTES_PER_WORD:
            return [self._ids[self._special.unknown]]
        found, start, inside = [], 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                place = self._ids.get(inside + word[start:end])
                if place is not None:
                    found.append(place)
                    start, inside = end, "##"
                    break
            else:
                return [self._ids[self._special.unknown]]
        return found


def join_fields(title: str, body: str) -> str:
    """Title and body as the one text that the encoder reads."""
    return strip(f"{title} {body}")


def strip(text: str) -> str:
    """As `tf.strings.strip`: ASCII white space at both ends goes."""
    return text.strip(_BLANKS)
