"""A small newsroom without faults, and a way to plant some."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import schema
from pipelines.data.audit import AuditReport, audit
from pipelines.data.dataset import Dataset
from pipelines.data.sources.newsroom import import_newsroom
from pipelines.data.sources.newsroom.sizes import NewsroomSize

NOW = datetime(2025, 4, 1, tzinfo=UTC)
SMALL = NewsroomSize(articles=300, users=250, days=8, requests=1_600)
Tables: TypeAlias = dict[str, pd.DataFrame]
Fault: TypeAlias = Callable[[Tables], None]
Plant: TypeAlias = Callable[[Fault], Dataset]
_SCHEMAS = {"items": schema.ITEMS, "events": schema.EVENTS, "users": schema.USERS}


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("newsroom") / "clean"
    import_newsroom(SMALL, folder, seed=5)
    return Dataset.open(folder)


@pytest.fixture(scope="session")
def clean_report(clean: Dataset) -> AuditReport:
    return audit(clean, now=NOW)


@pytest.fixture
def plant(clean: Dataset, tmp_path: Path) -> Plant:
    """Write the clean dataset again with a change to its tables; dataset.json stays as it was."""

    def plant(fault: Fault) -> Dataset:
        folder = tmp_path / "planted"
        shutil.copytree(clean.folder, folder)
        tables = {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in _SCHEMAS}
        fault(tables)
        for name, expected in _SCHEMAS.items():
            frame = tables[name].reset_index(drop=True)[expected.names]
            pq.write_table(pa.Table.from_pandas(frame, expected, preserve_index=False), folder / f"{name}.parquet")
        return Dataset.open(folder)

    return plant
