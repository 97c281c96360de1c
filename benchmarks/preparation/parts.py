"""What both ways agree on, and what they leave behind so that their answers can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HISTORY = 50
_SAMPLE = 300


def sample_users(events: Path) -> list[str]:
    """Some of the users of an events file, spread over its alphabet."""
    import pyarrow.parquet as pq

    users = sorted(pq.read_table(events, columns=["user_id"])["user_id"].unique().to_pylist())
    return users[:: max(1, len(users) // _SAMPLE)]


def save(out: Path, **found: Any) -> None:
    """Write an answer: counts, each sampled user's positives with their histories, each of their slates."""
    out.write_text(json.dumps(found), encoding="utf-8")


def load(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found
