from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.edge.bundle import Bundle
from serving.edge.errors import BadBundle
from tests.serving.edge.conftest import ITEMS

FILES = ["content.tflite", "items.npz", "user.tflite", "vocabulary.json", "wordpiece.txt"]


def refused(folder: Path) -> str:
    with pytest.raises(BadBundle) as error:
        Bundle.open(folder)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_bundle_holds_what_was_written(bundles: list[Path]) -> None:
    found = Bundle.open(bundles[0])
    assert found.items.ids == ITEMS
    assert found.vocabularies["category"] == {"food": 1, "football": 2, "weather": 3}
    assert found.manifest.version == "1"
    assert found.identity != Bundle.open(bundles[1]).identity


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert f"{name} is missing" in refused(bundle)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_is_found(bundle: Path, name: str, place: float, bit: int) -> None:
    path = bundle / name
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[int(place * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        assert "checksum differs" in refused(bundle)
    finally:
        path.write_bytes(before)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_manifest_never_crashes(bundle: Path, place: float, bit: int) -> None:
    path = bundle / "manifest.json"
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[int(place * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)
    with contextlib.suppress(BadBundle):
        Bundle.open(bundle)
    path.write_bytes(before)


def test_a_newer_format_is_told_with_the_way_out(bundle: Path, rewrite: Callable[..., None]) -> None:
    rewrite(bundle, format=2)
    assert "is of format 2, and this version of Belfry reads format 1: install" in refused(bundle)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"width": 17}, "imply"),
        ({"history": 7}, "implies"),
        ({"tokens": 13}, "implies"),
        ({"tags_kept": 3}, "imply"),
        ({"width": 0}, "whole number"),
        ({"top_k": "8"}, "whole number"),
        ({"fields": "both"}, "must be one of"),
        ({"text": None}, "both there or both null"),
        ({"text": {"kind": "sentencepiece"}}, "kind wordpiece"),
        ({"files": {"../../etc/passwd": "0"}}, "leads out"),
        ({"files": {}}, "does not list"),
        ({"ranking": {"retrieve": 4, "tasks": ["click"]}}, "does not list ranker.tflite"),
        ({"format": None}, "names no format"),
    ],
)
def test_a_manifest_that_contradicts_the_files_is_refused(
    bundle: Path, rewrite: Callable[..., None], values: dict, told: str
) -> None:
    rewrite(bundle, **values)
    assert told in refused(bundle)


def changed_items(folder: Path, **changes: object) -> bytes:
    with np.load(folder / "items.npz") as file:
        columns = {name: file[name] for name in file.files}
    for name, change in changes.items():
        if change is None:
            del columns[name]
        else:
            columns[name] = change(columns[name])  # type: ignore[operator]
    target = io.BytesIO()
    np.savez(target, **columns)
    return target.getvalue()


def with_nan(column: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(column)) == 3, np.nan, column).astype(column.dtype)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scale": with_nan}, "no numbers"),
        ({"appeal": with_nan}, "no numbers"),
        ({"scale": lambda old: -old}, "below 0"),
        ({"embedding": lambda old: old[:-1]}, "imply"),
        ({"embedding": lambda old: old.astype(np.float32)}, "imply"),
        ({"tags": None}, "no column tags"),
        ({"category": lambda old: old + 9}, "vocabulary does not"),
        ({"ids": lambda old: old[::-1].copy()}, "ids"),
        ({"ids": lambda old: np.full_like(old, 255)}, "UTF-8"),
        ({"id_offsets": lambda old: old * 0}, "ends do not fit"),
        ({"id_offsets": lambda old: old[:1]}, "no items"),
        ({"on_offer": lambda old: old.astype(object)}, "not a file of arrays"),
    ],
)
def test_items_that_cannot_be_are_refused(bundle: Path, rewrite: Callable[..., None], changes: dict, told: str) -> None:
    rewrite(bundle, {"items.npz": changed_items(bundle, **changes)})
    assert told in refused(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x1c\x00\x00\x00TFL3" + b"\x7f" * 64])
def test_files_of_something_else_are_refused(
    bundle: Path, rewrite: Callable[..., None], name: str, content: bytes
) -> None:
    rewrite(bundle, {name: content})
    refused(bundle)


def test_models_that_change_places_are_refused(bundle: Path, rewrite: Callable[..., None]) -> None:
    user, content = (bundle / "user.tflite").read_bytes(), (bundle / "content.tflite").read_bytes()
    rewrite(bundle, {"user.tflite": content, "content.tflite": user})
    assert "does not know" in refused(bundle)


def test_what_is_no_bundle_is_told(tmp_path: Path) -> None:
    assert "has no manifest.json" in refused(tmp_path)
    assert "has no manifest.json" in refused(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text(json.dumps([]))
    assert "names no format" in refused(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    assert "not valid JSON" in refused(tmp_path)
