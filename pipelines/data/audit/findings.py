"""What a check found: a number, the limit that it passed, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.data.audit.advice import ADVICE
from pipelines.recipe import Audit


@dataclass(frozen=True)
class Check:
    """One number that was held against a limit.

    Attributes:
        check: The name of its limit in the recipe's section `audit`.
        subject: The column, part or value that it is about; "" for the whole.
        severity: `error`, `warning`, or `ok`.
        what: One sentence with the number in it.
        threshold: The limit that was passed; None where none was.
        advice: What to do about it; "" where nothing is wrong.
    """

    check: str
    subject: str
    severity: str
    what: str
    value: float
    threshold: float | None
    advice: str


@dataclass
class Checks:
    """Collects checks; what is turned off or cannot be known is told apart from what is good."""

    limits: Audit
    done: list[Check] = field(default_factory=list)
    # By name of the check, why it was not made.
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, value: float | None, what: str, subject: str = "", *, sure: bool = True) -> None:
        """Hold a number against its limit; None, where there is nothing to count, is not held against any.

        Args:
            check: The name of the limit.
            value: The greater, the worse.
            what: One sentence with the number in it.
            subject: What it is about.
            sure: False where the number may be chance, or as it must be: it is then good whatever it is.
        """
        limit = self.limits.limit(check)
        if limit is None:
            self.skipped[check] = "turned off in the recipe"
            return
        if value is None:
            return
        value = float(value)
        severity = limit.severity(value) if sure else None
        threshold, advice = (limit.exceeded(value), ADVICE[check]) if severity else (None, "")
        self.done.append(Check(check, subject, severity or "ok", what, value, threshold, advice))

    def skip(self, why: str, *checks: str) -> None:
        """These checks cannot be made on this dataset."""
        for check in checks:
            off = self.limits.limit(check) is None
            self.skipped[check] = "turned off in the recipe" if off else why

    @property
    def findings(self) -> list[Check]:
        """What is wrong: errors first, then by name."""
        wrong = [check for check in self.done if check.severity != "ok"]
        return sorted(wrong, key=lambda check: (check.severity != "error", check.check, check.subject))

    def count(self, severity: str) -> int:
        return sum(check.severity == severity for check in self.done)

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": not self.count("error"),
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "findings": [asdict(check) for check in self.findings],
            "checks": [asdict(check) for check in self.done],
            "skipped": dict(sorted(self.skipped.items())),
        }


def share(part: float | None, whole: float | None) -> float | None:
    """A part of a whole; None where there is no whole."""
    return float(part or 0) / float(whole) if whole else None


def percent(value: float | None) -> str:
    """A share for a sentence: never 0 % for a few, nor 100 % for all but a few."""
    if value is None:
        return "none"
    text = f"{100 * value:.3g}"
    return f"{text} %" if float(text) < 100 or value >= 1 else "almost 100 %"
