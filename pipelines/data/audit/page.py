"""The audit as a page: what is wrong first, then what is in the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.data.audit import charts
from pipelines.page import Html, badge, cards, element, join, page, section, table

if TYPE_CHECKING:
    from pipelines.data.audit.audit import AuditReport

_TITLES = {
    "language": "By language",
    "category": "By category",
    "popularity": "Head and tail: the most popular items that have half of the positives, and the rest",
    "tenure": "New users, with fewer than five positives, and old ones",
    "user_language": "By the user's language",
    "device": "By device",
    "kind": "By kind of event",
}


def audit_page(report: AuditReport) -> str:
    """One HTML document, complete in itself."""
    result = report.result
    sections = [_findings(result), section("At a glance", _overview(result))]
    if result["times"]:
        sections.append(section("Over time", _charts(charts.by_day(result["times"]), charts.by_hour(result["times"]))))
    if result["positions"] or result["concentration"]["items"]:
        both = [charts.by_position(result["positions"]), *charts.concentration(result["concentration"])]
        sections.append(section("Positions and popularity", _charts(*both)))
    if result["drift"]:
        sections.append(_drift(result["drift"]))
    sections += [_split(result["split"]), _slices(result["slices"]), _columns(result["columns"]), _checks(result)]
    return page(f"Audit of {result['dataset']}", f"{result['source']}. Times are UTC.", sections)


def _charts(*figures: Html | None) -> Html:
    return element("div", *filter(None, figures), class_="charts")


def _findings(result: dict[str, Any]) -> Html:
    verdict = badge("passed", "good") if result["passed"] else badge("failed", "error")
    counted = f" {len(result['checks']):,} checks: {_count(result['errors'], 'error')}, "
    line = element("p", verdict, counted + _count(result["warnings"], "warning"))
    if not result["findings"]:
        return section("Findings", line, element("p", "Nothing that was checked is beyond its limit."))
    items = [
        element(
            "li",
            badge(each["severity"], each["severity"]),
            " ",
            element("strong", each["what"]),
            element("p", each["advice"]),
            element("p", f"{each['check']}: {each['value']:.4g}, limit {each['threshold']:g}", class_="note"),
        )
        for each in result["findings"]
    ]
    return section("Findings", line, element("ul", *items, class_="findings"))


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _overview(result: dict[str, Any]) -> Html:
    events = result["columns"]["events"]
    kinds = {each["value"]: each["rows"] for each in events["kind"].get("top", [])}
    figures: list[tuple[str, object]] = [(name, f"{result[name]:,}") for name in ("events", "users", "items")]
    figures += [(f"{kind} events", f"{rows:,}") for kind, rows in kinds.items()]
    requests = result["references"]["requests"]
    if requests["requests"]:
        figures.append(("requests", f"{requests['requests']:,}"))
    if result["concentration"]["items"]:
        figures.append(("Gini of items", f"{result['concentration']['items']['gini']:.3f}"))
    if result["clock"] == "utc":
        figures += [(name.replace("_at", " event"), (result[name] or "–")[:10]) for name in ("first_at", "last_at")]
    return cards(figures)


def _split(split: dict[str, Any]) -> Html:
    if "parts" not in split:
        return section("Split", element("p", f"Not divided: {split['why_not']}."))
    rows = [(name, count) for name, count in split["parts"].items()]
    return section(
        "Split", element("p", f"As the recipe divides them, by {split['by']}."), table(["part", split["unit"]], rows)
    )


def _drift(drift: dict[str, Any]) -> Html:
    first, border, end = (drift[name][:16].replace("T", " ") for name in ("first", "border", "end"))
    earlier = drift["earlier_windows"]
    usual = (
        f"“Usual” is the most that one of the {earlier} earlier windows of that length differs from the rest before."
        if earlier
        else "There are too few windows of that length before it to say what is usual."
    )
    lead = element("p", f"Before: {first} to {border}. After: {border} to {end}. {usual}")
    rows = [
        (
            each["column"],
            _three(each["psi"]),
            _three(each["usual_psi"]),
            _three(each.get("ks")),
            _three(each.get("usual_ks")),
            _three(each.get("cramers_v")),
            f"{each['p_value']:.2g}" if each["p_value"] > 1e-300 else "<1e-300",
        )
        for each in drift["columns"]
    ]
    heads = ["column", "PSI", "usual PSI", "KS", "usual KS", "Cramér's V", "p-value"]
    note = element(
        "p",
        "The p-value is of the Kolmogorov-Smirnov test for numbers and of chi-squared for the others, and takes events"
        " for independent; with many events every difference is significant, so that the limits are on sizes."
        " Popularity is held against no limit: the items of the last days have not had their clicks yet.",
        class_="note",
    )
    figures = [charts.windows(each) for each in drift["columns"]]
    return section("Drift between two windows", lead, table(heads, rows, wide=True), note, _charts(*figures))


def _slices(slices: dict[str, list[dict[str, Any]]]) -> Html:
    heads = ["value", "events", "share", "users", "items", "impressions", "positives", "label rate", "median dwell, s"]
    heads += ["no dwell", "no position", "repeats"]
    parts: list[Html] = []
    for name, rows in slices.items():
        body = [
            (
                row["value"],
                row["events"],
                _percent(row["share"]),
                row["users"],
                row["items"],
                row["impressions"],
                row["positives"],
                _percent(row["label_rate"]),
                row["dwell_median"],
                _percent(row["missing"]["dwell_seconds"]),
                _percent(row["missing"]["position"]),
                _percent(row["duplicates"]),
            )
            for row in rows
        ]
        parts.append(table(heads, body, caption=_TITLES[name], wide=True))
    return section("Slices", _charts(*charts.slices(slices)), *parts)


def _columns(columns: dict[str, dict[str, Any]]) -> Html:
    heads = ["column", "filled", "missing where expected", "values", "least", "median", "most", "commonest"]
    parts: list[object] = [_charts(*charts.histograms(columns["events"]))]
    for name, described in columns.items():
        rows: list[Sequence[object]] = []
        for column, found in described.items():
            top = found.get("top") or [None]
            rows.append(
                (
                    column,
                    _percent(found["given"] / found["rows"] if found["rows"] else None),
                    _percent(found["missing"] / found["expected"] if found["expected"] and found["given"] else None),
                    found.get("distinct"),
                    found.get("min"),
                    found.get("quantiles", {}).get("0.5"),
                    found.get("max"),
                    f"{top[0]['value'][:40]} ({top[0]['rows']:,})" if top[0] else None,
                )
            )
        parts.append(table(heads, rows, caption=name, wide=True))
    return section("Columns", *parts)


def _checks(result: dict[str, Any]) -> Html:
    tones = {"ok": "good", "warning": "warning", "error": "error"}
    rows = [
        (
            each["check"],
            badge(each["severity"], tones[each["severity"]]),
            each["what"],
            *_limits(result["limits"][each["check"]]),
        )
        for each in result["checks"]
    ]
    parts = [
        table(["check", "verdict", "what", "warning above", "error above"], rows, caption="Every check that was made")
    ]
    if result["skipped"]:
        parts.append(table(["check", "why not"], result["skipped"].items(), caption="Checks that were not made"))
    return section("Checks", element("details", element("summary", "All checks and limits"), join(parts)))


def _limits(limit: dict[str, float | None]) -> tuple[float | None, float | None]:
    return limit["warning"], limit["error"]


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.3g} %"


def _three(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
