"""What a bundle says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.edge.errors import BadBundle

FORMAT = 1
_MANY = 100_000  # more of anything than a device can hold
_SPECIAL = {"pad", "unknown", "start", "end"}


@dataclass(frozen=True)
class Text:
    """How texts become tokens."""

    lowercase: bool
    strip_accents: bool
    special: dict[str, str]


@dataclass(frozen=True)
class Ranking:
    """The second stage: C candidates that it is given, and its tasks."""

    retrieve: int
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """Sizes and names of a bundle.

    Args:
        version: The number of the SavedModel from which it is.
        variant: float32, float16, dynamic_range or int8.
        history, width, top_k, tags_kept, tokens: H, D, K, T, L.
        fields: How title and body are read: joined, title or separate.
        files: Checksums (SHA-256) by name.
    """

    model: str
    version: str
    variant: str
    history: int
    width: int
    top_k: int
    tags_kept: int
    fields: str
    tokens: int | None
    text: Text | None
    ranking: Ranking | None
    files: dict[str, str]

    @property
    def texts(self) -> int:
        """F, texts of an item."""
        return 2 if self.fields == "separate" else 1

    @classmethod
    def read(cls, path: Path, value: Any) -> Manifest:
        """From the parsed `manifest.json`.

        Raises:
            BadBundle: It is of a newer format, or not a manifest.
        """
        if not isinstance(value, dict) or not isinstance(value.get("format"), int):
            raise BadBundle(f"{path} is not the manifest of a bundle: it names no format.")
        if value["format"] != FORMAT:
            raise BadBundle(
                f"{path} is of format {value['format']}, and this version of Belfry reads format {FORMAT}: "
                "install the version that wrote it."
            )
        try:
            return cls(
                model=_text(value, "model"),
                version=str(value["version"]),
                variant=_text(value, "variant"),
                fields=_one_of(value, "fields", ("joined", "title", "separate")),
                **{name: _size(value, name) for name in ("history", "width", "top_k", "tags_kept")},
                tokens=None if value["tokens"] is None else _size(value, "tokens"),
                text=None if value["text"] is None else _read_text(value["text"]),
                ranking=None if value["ranking"] is None else _read_ranking(value["ranking"]),
                files=_files(value["files"]),
            )._consistent()
        except KeyError as missing:
            raise BadBundle(f"{path} lacks {missing.args[0]!r}.") from None
        except _Wrong as error:
            raise BadBundle(f"{path} has a wrong value: {error}.") from None

    def _consistent(self) -> Manifest:
        if (self.tokens is None) != (self.text is None):
            raise _Wrong("`tokens` and `text` are both there or both null")
        return self


class _Wrong(Exception):
    pass


def _text(value: dict[str, Any], name: str) -> str:
    if not isinstance(value[name], str) or not value[name]:
        raise _Wrong(f"{name!r} must be a text that is not empty")
    return str(value[name])


def _one_of(value: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    if value[name] not in known:
        raise _Wrong(f"{name!r} must be one of {', '.join(known)}")
    return str(value[name])


def _size(value: dict[str, Any], name: str) -> int:
    if type(value[name]) is not int or not 0 < value[name] < _MANY:
        raise _Wrong(f"{name!r} must be a whole number from 1 to {_MANY - 1}")
    return int(value[name])


def _read_text(value: Any) -> Text:
    if not isinstance(value, dict) or value.get("kind") != "wordpiece":
        raise _Wrong("`text` must be of the kind wordpiece")
    special = value["special"]
    if (
        not isinstance(special, dict)
        or set(special) != _SPECIAL
        or not all(isinstance(x, str) for x in special.values())
    ):
        raise _Wrong(f"`text.special` must name {', '.join(sorted(_SPECIAL))}")
    for name in ("lowercase", "strip_accents"):
        if not isinstance(value[name], bool):
            raise _Wrong(f"`text.{name}` must be true or false")
    return Text(value["lowercase"], value["strip_accents"], special)


def _read_ranking(value: Any) -> Ranking:
    if not isinstance(value, dict) or not isinstance(value["tasks"], list) or not value["tasks"]:
        raise _Wrong("`ranking` must have tasks")
    return Ranking(_size(value, "retrieve"), tuple(map(str, value["tasks"])))


def _files(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise _Wrong("`files` must be names and checksums")
    for name in value:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise _Wrong(f"the file name {name!r} leads out of the bundle")
    return dict(value)
