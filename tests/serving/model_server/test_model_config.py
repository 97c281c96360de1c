from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.model_server.errors import ServingError
from serving.model_server.model_config import ModelConfig, VersionPolicy, read_model_configs


def read(folder: Path, text: str) -> list[ModelConfig]:
    file = folder / "models.config"
    file.write_text(text)
    return read_model_configs(file)


def listed(*models: str) -> str:
    return "model_config_list { " + " ".join(f"config {{ {model} }}" for model in models) + " }"


GOOD = 'name: "a" base_path: "/m/a" model_platform: "tensorflow"'


def test_names_paths_policies_and_labels(tmp_path: Path) -> None:
    configs = read(
        tmp_path,
        listed(
            GOOD,
            'name: "b" base_path: "/m/b" model_platform: "tensorflow" '
            "model_version_policy { latest { num_versions: 3 } }",
            'name: "c" base_path: "/m/c" model_type: TENSORFLOW model_version_policy { all {} }',
            'name: "d" base_path: "/m/d" model_platform: "tensorflow" '
            "model_version_policy { specific { versions: 4 versions: 2 } } "
            'version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 4 }',
        ),
    )
    assert configs == [
        ModelConfig("a", Path("/m/a")),
        ModelConfig("b", Path("/m/b"), VersionPolicy(latest=3)),
        ModelConfig("c", Path("/m/c"), VersionPolicy(latest=None)),
        ModelConfig("d", Path("/m/d"), VersionPolicy(specific=frozenset({2, 4})), {"stable": 2, "canary": 4}),
    ]
    assert read(tmp_path, "model_config_list {}") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no model_config_list"),
        ("model_config_list { nonsense: 1 }", "Invalid protobuf file"),
        (listed(GOOD, GOOD), "Illegal to list model a multiple times in config list"),
        (listed('base_path: "/m" model_platform: "tensorflow"'), "name must be a word"),
        (listed('name: "a" base_path: "m" model_platform: "tensorflow"'), "absolute local path"),
        (listed('name: "a" base_path: "gs://b/m" model_platform: "tensorflow"'), "absolute local path"),
        (listed('name: "a" base_path: "/m"'), "model_platform is missing"),
        (listed('name: "a" base_path: "/m" model_platform: "other"'), "only model_platform"),
        (listed(GOOD + " model_type: TENSORFLOW"), "both model_type"),
        (listed(GOOD + " model_version_policy { specific {} }"), "lists no versions"),
        (listed(GOOD + " logging_config {}"), "logging_config is not supported"),
        ("custom_model_config {}", "custom_model_config is not supported"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="(?s)" + words):
        read(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Cannot read"):
        read_model_configs(tmp_path / "absent")


numbers = st.sets(st.integers(0, 20))


@given(found=numbers, broken=numbers, count=st.integers(1, 5))
def test_latest_keeps_the_newest_that_load(found: set[int], broken: set[int], count: int) -> None:
    kept = VersionPolicy(latest=count).choose(found, lambda number: number not in broken)
    assert kept == set(sorted(found - broken)[-count:])


@given(found=numbers, broken=numbers, wanted=st.sets(st.integers(0, 20), min_size=1))
def test_all_and_specific(found: set[int], broken: set[int], wanted: set[int]) -> None:
    assert VersionPolicy(latest=None).choose(found, lambda number: number not in broken) == found - broken
    asked: list[int] = []
    policy = VersionPolicy(specific=frozenset(wanted))
    assert (
        policy.choose(found, lambda number: bool(asked.append(number)) or number not in broken)
        == (found & wanted) - broken
    )
    assert set(asked) == found & wanted  # what is not listed is not even tried
