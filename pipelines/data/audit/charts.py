"""The audit's charts, each with its numbers."""

from __future__ import annotations

from typing import Any

from pipelines.page import Html, Line, bars, columns, figure, lines, table
from pipelines.page.drawing import percent, short

_BARS = 12


def by_day(times: dict[str, Any]) -> Html | None:
    """Events a day, a line for each kind."""
    days = sorted({row["day"] for row in times["days"]})
    if not days:
        return None
    kinds = sorted({row["kind"] for row in times["days"]})[:5]
    counts = {(row["kind"], row["day"]): row["events"] for row in times["days"]}
    drawn = [Line(kind, [float(counts.get((kind, day), 0)) for day in days]) for kind in kinds]
    chart = lines("Events a day", [day[5:] for day in days], drawn)
    rows = [(day, *(counts.get((kind, day), 0) for kind in kinds)) for day in days]
    return figure("Events a day", chart, table(["day", *kinds], rows), note="The first and the last day may be parts.")


def by_hour(times: dict[str, Any]) -> Html | None:
    """Events by hour of the day."""
    counts = {row["hour"]: row["events"] for row in times["hours"]}
    if not counts:
        return None
    hours = [counts.get(hour, 0) for hour in range(24)]
    chart = columns("Events by hour of the day", [str(hour) for hour in range(24)], {"events": hours})
    return figure("Events by hour of the day", chart, table(["hour", "events"], enumerate(hours)))


def by_position(positions: list[dict[str, Any]]) -> Html | None:
    """The label rate by position with its interval."""
    if not positions:
        return None
    rows = positions[:60]
    line = Line("label rate", *([row[key] for row in rows] for key in ("rate", "low", "high")))
    chart = lines("Label rate by position", [str(row["position"]) for row in rows], [line], format_=percent)
    numbers = [(row["position"], row["impressions"], row["positives"], percent(row["rate"])) for row in positions]
    note = "Positives of what was shown there, with a 95 % interval (Wilson)."
    heads = ["position", "impressions", "positives", "rate"]
    return figure("Label rate by position", chart, table(heads, numbers), note=note)


def concentration(found: dict[str, Any]) -> list[Html]:
    """Which share of the items has which share of the positives, and users likewise of events."""
    figures = []
    for name, what, each in (("items", "positives", found["items"]), ("users", "events", found["users"])):
        if not each:
            continue
        curve = each["curve"]
        title = f"Shares of the {what} that the first {name} have"
        line = Line(what, [point["share"] for point in curve])
        chart = lines(title, [percent(point["part"]) for point in curve], [line], format_=percent, diagonal=True)
        rows = [(percent(point["part"]), percent(point["share"])) for point in curve]
        note = f"Most popular or most active first; Gini {each['gini']:.3f}. Dashed: all have the same."
        figures.append(figure(title, chart, table([name, what], rows), note=note))
    return figures


def windows(column: dict[str, Any]) -> Html:
    """Shares of a column's values before and after."""
    before, after = (max(1, rows) for rows in column["rows"])
    bins = column["bins"]
    if column["column"] == "hour":
        bins = sorted(bins, key=lambda each: int(each["value"]))
    shown = bins if column["column"] == "hour" else bins[:_BARS]
    labels = [each["value"] for each in shown]
    series = {"before": [each["before"] / before for each in shown], "after": [each["after"] / after for each in shown]}
    title = f"{column['column']}: PSI {column['psi']:.3f}"
    draw = columns if column["column"] == "hour" else bars
    chart = draw(title, labels, series, format_=percent)
    rows = [(each["value"], each["before"], each["after"]) for each in bins]
    note = f"The first {_BARS} of {len(bins)}." if len(shown) < len(bins) else ""
    return figure(title, chart, table([column["column"], "before", "after"], rows), note=note)


def slices(found: dict[str, list[dict[str, Any]]]) -> list[Html]:
    """Label rates of slices, by position where there are few, and their shares of the events."""
    figures = []
    for name, rows in found.items():
        drawn = [Line(row["value"], row["label_rate_by_position"]) for row in rows if row["label_rate_by_position"]]
        drawn = [line for line in drawn if len(line.y) > 1][:5]
        if len(drawn) > 1:
            longest = max(len(line.y) for line in drawn)
            drawn = [Line(line.name, [*line.y, *[None] * (longest - len(line.y))]) for line in drawn]
            title = f"Label rate by position and {name}"
            places = [str(place) for place in range(longest)]
            chart = lines(title, places, drawn, format_=percent)
            numbers = [(place, *(_rate(line.y[at]) for line in drawn)) for at, place in enumerate(places)]
            figures.append(figure(title, chart, table(["position", *(line.name for line in drawn)], numbers)))
        elif name != "kind":
            title = f"Events by {name}"
            shown = rows[:_BARS]
            chart = bars(title, [row["value"] for row in shown], {"events": [row["events"] for row in shown]})
            figures.append(
                figure(title, chart, table([name, "events"], [(row["value"], row["events"]) for row in rows]))
            )
    return figures


def histograms(events: dict[str, dict[str, Any]]) -> list[Html]:
    """The measurements of events, in bins."""
    figures = []
    for name in ("dwell_seconds", "scroll_depth", "value", "propensity"):
        found = events[name].get("histogram")
        if not found:
            continue
        labels = [short(each["from"]) for each in found]
        chart = columns(name, labels, {"events": [each["rows"] for each in found]})
        rows = [(each["from"], each["rows"]) for each in found]
        note = "The last bin also holds what is above."
        figures.append(figure(name, chart, table(["from", "events"], rows), note=note))
    return figures


def _rate(value: float | None) -> str | None:
    return None if value is None else percent(value)
