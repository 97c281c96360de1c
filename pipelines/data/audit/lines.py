"""The audit as lines for a terminal."""

from __future__ import annotations

from pipelines.data.audit.audit import AuditReport


def audit_lines(report: AuditReport) -> list[str]:
    """A line for each finding with its number and limit, one below it that says what to do, and the verdict."""
    result = report.result
    lines: list[str] = []
    for found in report.findings:
        numbers = f"({found.value:.4g}, limit {found.threshold:g})"
        lines.append(f"{found.severity:7}  {found.check:24}  {found.what} {numbers}")
        lines.append(f"{'':7}  {'':24}  {found.advice}")
    made, skipped = len(result["checks"]), len(result["skipped"])
    verdict = "passes" if report.passed else "fails"
    counts = [f"{result[f'{what}s']} {what}{'' if result[f'{what}s'] == 1 else 's'}" for what in ("error", "warning")]
    lines.append(
        f"{result['dataset']} {verdict}: {', '.join(counts)} in {made} checks"
        + (f"; {skipped} kinds of check do not apply or are off (--json says why)" if skipped else "")
    )
    return lines
