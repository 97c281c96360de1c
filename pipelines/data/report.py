"""What an import did: rows read, kept, and dropped or mended by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TableCount:
    """Counts of one input table. `read` equals `kept` plus everything in `dropped`."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    # Rows that were kept although something about them is unusual, by what it is.
    noted: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, rows: int = 1) -> None:
        if rows:
            self.dropped[reason] += rows

    def note(self, what: str, rows: int = 1) -> None:
        if rows:
            self.noted[what] += rows

    def check(self, table: str) -> None:
        """Nothing is dropped in silence: the sums must agree."""
        if self.read != self.kept + self.dropped.total():
            raise AssertionError(
                f"{table}: {self.read} rows read, but {self.kept} kept and {self.dropped.total()} dropped"
            )


@dataclass
class ImportReport:
    """One `TableCount` per input table, in the order in which they were read.

    Args:
        tables: By part of the source: rows `read` and `kept`, and `dropped` and `noted` by reason.

    Example:
        >>> from pathlib import Path
        >>> from pipelines import import_table
        >>> rows = ["user_id,item_id,at", "u1,a1,2025-03-01T08:00Z", "u1,,2025-03-01T08:01Z"]
        >>> _ = Path("broken.csv").write_text("\\n".join(rows))
        >>> report = import_table("broken.csv", "of-broken")
        >>> report.lines()[0]
        'events (broken.csv): 2 read, 1 kept, 1 dropped'
    """

    tables: dict[str, TableCount] = field(default_factory=dict)

    def table(self, name: str) -> TableCount:
        return self.tables.setdefault(name, TableCount())

    def check(self) -> None:
        for name, count in self.tables.items():
            count.check(name)

    def as_dict(self) -> dict[str, Any]:
        return {
            name: {
                "read": count.read,
                "kept": count.kept,
                "dropped": dict(sorted(count.dropped.items())),
                "noted": dict(sorted(count.noted.items())),
            }
            for name, count in self.tables.items()
        }

    def lines(self) -> list[str]:
        """Plain text, a line a table and a line a reason."""
        text = []
        for name, count in self.tables.items():
            text.append(f"{name}: {count.read:,} read, {count.kept:,} kept, {count.dropped.total():,} dropped")
            text += [f"  dropped {rows:,}: {reason}" for reason, rows in sorted(count.dropped.items())]
            text += [f"  kept {rows:,} though: {what}" for what, rows in sorted(count.noted.items())]
        return text

    def __str__(self) -> str:
        return "\n".join(self.lines())
