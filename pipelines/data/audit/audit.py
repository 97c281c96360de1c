"""An audit of a dataset: what is in it, what is wrong with it, and whether it passes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from ibis import _

from pipelines.artefacts import atomic_folder, check_folder, write_json
from pipelines.data.audit.columns import audit_columns
from pipelines.data.audit.concentration import audit_concentration
from pipelines.data.audit.drift import audit_drift
from pipelines.data.audit.duplicates import audit_duplicates
from pipelines.data.audit.examples import Divided, divide
from pipelines.data.audit.findings import Check, Checks
from pipelines.data.audit.leakage import audit_leakage, border
from pipelines.data.audit.positions import audit_positions
from pipelines.data.audit.references import audit_references
from pipelines.data.audit.slices import audit_slices
from pipelines.data.audit.tables import Tables, load_tables
from pipelines.data.audit.times import EARLIEST, audit_times
from pipelines.data.dataset import Dataset
from pipelines.data.engine import open_duckdb
from pipelines.progress import stages, track
from pipelines.recipe import Recipe

JSON, PAGE = "audit.json", "audit.html"


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        result: All of it, ready for JSON.
        findings: What is wrong, errors first.

    Example:
        >>> from pipelines import Dataset, audit
        >>> report = audit(Dataset.open("data"))
        >>> report.passed, report.lines()[-1].startswith("newsroom passes")
        (True, True)
    """

    result: dict[str, Any]
    findings: list[Check]

    @property
    def passed(self) -> bool:
        """Whether there is no error; warnings pass."""
        return bool(self.result["passed"])

    def lines(self) -> list[str]:
        """The findings and the verdict as plain text."""
        from pipelines.data.audit.lines import audit_lines

        return audit_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def audit(
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
    out: Path | str | None = None,
) -> AuditReport:
    """Audit a dataset under a recipe's limits and split.

    The same dataset and recipe give the same report. What is wrong with the data is a finding, never an exception.

    Args:
        dataset: An opened dataset folder.
        recipe: Its sections `audit` and `data` and its seed are used. The defaults without one.
        since: Where the later of the two windows that are compared begins; by default where the split's test part
            does, if the split is by time, and else after nine tenths of the events.
        now: Later events are in the future. The wall clock by default.
        out: A folder for audit.json and audit.html; an earlier audit there is replaced.

    Raises:
        BadInput: A file of the dataset is broken, or `out` must not be replaced.

    Example:
        >>> from pipelines import Dataset, audit
        >>> report = audit(Dataset.open("data"), out="audit")  # audit/audit.html to look at
        >>> sorted({each.severity for each in report.findings} - {"warning"})
        []
    """
    recipe = recipe or Recipe()
    out = None if out is None else Path(out)
    if out is not None:
        check_folder(out, replaces=(JSON, PAGE))
    with tempfile.TemporaryDirectory() as folder, open_duckdb(Path(folder) / "work") as engine:
        try:
            with stages("audit", {"reading the tables": 1, "checks": 2}) as begin:
                begin("reading the tables")
                tables = load_tables(engine, dataset, recipe.data.positive_rating)
                begin("checks")
                report = _audit(tables, recipe, since, now or datetime.now(UTC))
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            dataset.verify()  # the input's fault or ours?
            raise
    if out is not None:
        from pipelines.data.audit.page import audit_page

        with atomic_folder(out, replaces=(JSON, PAGE)) as draft:
            write_json(draft / JSON, report.result)
            (draft / PAGE).write_text(audit_page(report), encoding="utf-8")
    return report


def _audit(tables: Tables, recipe: Recipe, since: datetime | None, now: datetime) -> AuditReport:
    checks, info = Checks(recipe.audit), tables.dataset.info
    divided: Divided | str = ""

    def parts() -> dict[str, Any]:
        nonlocal divided
        divided = divide(tables, recipe)
        return audit_leakage(divided, recipe.data.split, checks, has_times=tables.has_times)

    steps = {
        "columns": lambda: audit_columns(tables, checks),
        "duplicates": lambda: audit_duplicates(tables, checks),
        "references": lambda: audit_references(tables, checks),
        "times": lambda: audit_times(tables, checks, now),
        "positions": lambda: audit_positions(tables, checks),
        "concentration": lambda: audit_concentration(tables, checks),
        "split": parts,
        "drift": lambda: audit_drift(tables, checks, _border(tables, recipe, divided, since, now)),
        "slices": lambda: audit_slices(tables),
    }
    sections = {name: steps[name]() for name in track(steps, "auditing", len(steps))}
    about = {
        "dataset": info.name,
        "source": info.source,
        "clock": info.clock,
        "items": info.items,
        "events": info.events,
        "users": info.users,
        "first_at": info.first_at.isoformat() if info.first_at else None,
        "last_at": info.last_at.isoformat() if info.last_at else None,
    }
    limits = recipe.audit.model_dump()
    return AuditReport(about | checks.as_dict() | {"limits": limits} | sections, checks.findings)


def _border(
    tables: Tables, recipe: Recipe, divided: Divided | str, since: datetime | None, now: datetime
) -> int | None:
    """Where the later window begins, in seconds since 1970."""
    if since is not None:
        return int(since.timestamp())
    if recipe.data.split.by in ("time", "moments") and (found := border(divided)) is not None:
        return found
    plausible = tables.facts.filter(_.second.between(EARLIEST, int(now.timestamp())))
    tenth = tables.engine.fetch(plausible.agg(at=_.second.quantile(0.9)))[0]["at"]
    return None if tenth is None else int(tenth)
