from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.catalogue import Catalogue, places, vocabulary
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput

Make = Callable[..., Dataset]
EVENTS = [{"user_id": "u", "item_id": "b", "kind": "click", "at": 1}]
UNKNOWN = np.iinfo(np.int64).min


def test_items_come_by_id_and_the_removed_are_not_on_offer(make_dataset: Make) -> None:
    items: list[dict[str, Any]] = [
        {"item_id": "é", "title": " T", "body": "B ", "language": "en", "category": "c", "published_at": -1.5},
        {"item_id": "b", "body": "only a body"},
        {"item_id": "gone", "removed_at": 5},
        {"item_id": "B", "title": "only a title", "published_at": 1.9},
    ]
    found = Catalogue.load(make_dataset(EVENTS, items))
    assert list(found.ids) == ["B", "b", "gone", "é"]
    assert len(found) == 4
    assert list(found.text) == ["only a title", "only a body", "", "T B"]
    assert (list(found.language), list(found.category)) == (["", "", "", "en"], ["", "", "", "c"])
    assert found.on_offer(np.array([0, 1, 5])).tolist() == [
        [False, True, True, True],
        [True, True, True, True],
        [True, True, False, True],
    ]
    assert found.published_at[1] == UNKNOWN
    assert found.published_at[0] == 1


def test_a_clock_of_row_numbers_knows_no_time_of_publication(make_dataset: Make) -> None:
    items = [{"item_id": "b", "published_at": 1.7e9}]
    assert Catalogue.load(make_dataset(EVENTS, items)).published_at == [1_700_000_000]
    assert Catalogue.load(make_dataset(EVENTS, items, clock="row order")).published_at == [UNKNOWN]


def test_a_file_that_breaks_in_the_middle_is_bad_input(make_dataset: Make) -> None:
    dataset = make_dataset(EVENTS, [{"item_id": f"item {number}"} for number in range(50)])
    content = bytearray(dataset.items.read_bytes())
    content[4:200] = b"\xff" * 196
    dataset.items.write_bytes(content)
    with pytest.raises(BadInput, match=r"items\.parquet is broken: import the dataset again"):
        Catalogue.load(Dataset.open(dataset.folder))


@given(st.lists(st.sampled_from(["", "a", "b", "c", "é"])))
def test_places_lead_back_to_the_values(values: list[str]) -> None:
    words = vocabulary(np.array(values, dtype=object))
    found = places(np.array(values, dtype=object), words)
    assert found[0] == 0
    assert found.dtype == np.int32
    assert len(words) != 1
    if words:
        assert [words[place - 1] if place else "" for place in found[1:]] == values
        assert words == sorted(set(values) - {""})


def test_what_everything_shares_is_no_vocabulary() -> None:
    assert vocabulary(np.array(["en", "", "en"], dtype=object)) == []
    assert list(places(np.array(["en", "new"], dtype=object), ["de", "en"])) == [0, 2, 0]
