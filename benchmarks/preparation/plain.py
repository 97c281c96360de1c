"""The plain pandas way: read, filter, sort, group by user, and apply a function that builds the lists."""

from __future__ import annotations

import sys
from bisect import bisect_left
from pathlib import Path

import pandas as pd

from benchmarks.preparation.parts import HISTORY, save

_COLUMNS = ["user_id", "item_id", "kind", "at", "request_id", "position"]
_SLATE = ["user_id", "request_id"]


def main(folder: Path, users: list[str], out: Path) -> None:
    events = pd.read_parquet(folder / "events.parquet", columns=_COLUMNS)
    clicks = events[events["kind"] == "click"]
    # One click on an item of a request, however often it was logged.
    again = clicks["request_id"].notna() & clicks.duplicated(["user_id", "item_id", "request_id"])
    clicks = with_histories(clicks[~again])
    shown = slates(events[(events["kind"] == "impression") & events["request_id"].notna()], clicks)
    mine = clicks[clicks["user_id"].isin(users)]
    seen = shown[shown.index.get_level_values("user_id").isin(users)]
    save(
        out,
        positives=len(clicks),
        in_histories=int(clicks["history"].str.len().sum()),
        slates=len(shown),
        histories={
            user: list(zip(rows["item_id"], rows["history"], strict=True)) for user, rows in mine.groupby("user_id")
        },
        shown={f"{user} {request}": list(row) for (user, request), *row in seen.itertuples()},
    )


def with_histories(clicks: pd.DataFrame) -> pd.DataFrame:
    """The clicks by user and time, each with the items of the last `HISTORY` before it, without its own slate's."""
    clicks = clicks.sort_values(["user_id", "at"], kind="stable")
    clicks["second"] = clicks["at"].dt.floor("s")

    def before(user: pd.DataFrame) -> pd.Series:
        items, seconds = user["item_id"].tolist(), user["second"].tolist()
        lists = []
        for place, in_slate in enumerate(user["request_id"].notna().tolist()):
            end = bisect_left(seconds, seconds[place]) if in_slate else place
            lists.append(items[max(0, end - HISTORY) : end])
        return pd.Series(lists, index=user.index)

    by_user = clicks[["user_id", "item_id", "second", "request_id"]].groupby("user_id", group_keys=False)
    clicks["history"] = by_user.apply(before, include_groups=False)
    return clicks


def slates(shown: pd.DataFrame, clicks: pd.DataFrame) -> pd.DataFrame:
    """One row per request: what it showed, and which of it was clicked on."""
    clicked = clicks.loc[clicks["request_id"].notna(), [*_SLATE, "item_id"]].assign(clicked=True)
    shown = shown.merge(clicked, how="left", on=[*_SLATE, "item_id"])
    shown["clicked"] = shown["clicked"].notna()
    return shown.sort_values([*_SLATE, "position"], kind="stable").groupby(_SLATE)[["item_id", "clicked"]].agg(list)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").split("\n"), Path(sys.argv[3]))
