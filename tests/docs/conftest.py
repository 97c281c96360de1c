"""What the pages begin with: a publisher's tables, public data sets in miniature, a store, a version."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tables(dataset_folder: Path) -> Path:
    """The files from which the small dataset was imported."""
    return dataset_folder.parent


@pytest.fixture(scope="session")
def events_csv(tables: Path) -> Path:
    return tables / "events.csv"


@pytest.fixture(scope="session")
def items_csv(tables: Path) -> Path:
    return tables / "items.csv"


@pytest.fixture(scope="session")
def users_csv(tables: Path) -> Path:
    return tables / "users.csv"


@pytest.fixture(scope="session")
def clicks(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clicks of a publisher whose columns have other names."""
    import pandas as pd

    events = pd.read_csv(tables / "events.csv")
    events = events[events.kind == "click"][["user_id", "item_id", "at"]]
    path = tmp_path_factory.mktemp("tables") / "clicks.csv"
    events.rename(columns={"user_id": "visitor", "item_id": "article", "at": "time"}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def articles(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pandas as pd

    path = tmp_path_factory.mktemp("tables") / "articles.csv"
    pd.read_csv(tables / "items.csv").rename(columns={"item_id": "article"}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def mind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MIND's layout."""
    folder = tmp_path_factory.mktemp("mind")
    news = [f"N{number}\tsports\trowing\tTitle {number}\tText\thttps://example.org\t[]\t[]" for number in range(3)]
    (folder / "news.tsv").write_text("".join(f"{line}\n" for line in news))
    (folder / "behaviors.tsv").write_text("1\tU1\t11/12/2019 12:00:00 PM\tN0\tN1-1 N2-0\n")
    return folder


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MovieLens 100K's layout."""
    folder = tmp_path_factory.mktemp("ml100k")
    (folder / "u.data").write_text("5\t1\t4\t881250949\n")
    flags = "|".join(["0"] * 18 + ["1"])
    (folder / "u.item").write_text(f"1|Rails (1996)|09-Feb-1996||https://example.org|{flags}\n", encoding="latin-1")
    return folder


@pytest.fixture(scope="session")
def store(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway's store with the small dataset in it."""
    from pipelines import Dataset, fill_store

    folder = tmp_path_factory.mktemp("stores") / "store"
    fill_store(Dataset.open(dataset_folder), folder)
    return folder


@pytest.fixture(scope="session")
def version_folder(model_folder: Path) -> Path:
    return model_folder / "1"
