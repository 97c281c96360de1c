"""Charts as inline SVG: horizontal bars, columns, lines with intervals, intervals alone, and points.

Each is an image with a title and a description for who cannot see it. No value may be infinite; None is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.page.drawing import (
    BOTTOM,
    COLOURS,
    LEFT,
    RIGHT,
    WIDTH,
    Format,
    Frame,
    cut,
    frame_of,
    in_words,
    legend,
    legend_height,
    number,
    rect,
    round_ticks,
    short,
    svg,
)
from pipelines.page.markup import Html, element


@dataclass(frozen=True)
class Line:
    """A line of `lines`: y (K,), and where there is an interval, its ends (K,)."""

    name: str
    y: Sequence[float | None]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def bars(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *, format_: Format = short) -> Html:
    """Horizontal bars, a group for each label and a colour for each series; for names and few values."""
    high = max((value for values in series.values() for value in values), default=0) or 1.0
    thick = 14.0 if len(series) == 1 else 12.0
    group = thick * len(series) + 8
    begin, end, top = 118.0, 46.0, 6.0 + legend_height(series)
    parts: list[Html] = [*legend(list(series))]
    for place, label in enumerate(labels):
        y = top + place * group
        middle = y + thick * len(series) / 2 + 4
        parts.append(element("text", cut(label, 18), x=begin - 6, y=number(middle), text_anchor="end"))
        for colour, values in enumerate(series.values()):
            width = (WIDTH - begin - end) * max(0.0, values[place]) / high
            at = y + colour * thick
            parts.append(rect(begin, at, max(width, 0.5), thick - 1.5, colour))
            text = element("text", format_(values[place]), x=number(begin + width + 4), y=number(at + thick - 3))
            parts.append(text)
    said = "; ".join(
        f"{label}: " + ", ".join(f"{name} {format_(values[place])}" for name, values in series.items())
        for place, label in enumerate(labels)
    )
    return svg(title, said, top + len(labels) * group + 2, parts)


def intervals(title: str, labels: Sequence[str], values: Sequence[Sequence[float]], *, format_: Format = short) -> Html:
    """Points with their intervals, one below the other, and a line at 0; values are (low, middle, high)."""
    ticks = round_ticks(min(0.0, *(low for low, _, _ in values), 0.0), max(0.0, *(high for _, _, high in values), 0.0))
    begin, end, step = 128.0, 24.0, 24.0
    floor = 10 + step * len(labels)

    def x(value: float) -> float:
        return begin + (WIDTH - begin - end) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts: list[Html] = []
    for tick in ticks:
        at, kind = number(x(tick)), "axis" if abs(tick) < 1e-12 else "grid"
        parts.append(element("line", x1=at, y1=4, x2=at, y2=number(floor), class_=kind))
        parts.append(element("text", format_(tick), x=at, y=number(floor + 15), text_anchor="middle"))
    for place, (label, (low, middle, high)) in enumerate(zip(labels, values, strict=True)):
        y = 10 + step * (place + 0.5)
        sure = 0 if low > 0 else 1 if high < 0 else 4
        parts.append(element("text", cut(label, 20), x=begin - 8, y=number(y + 4), text_anchor="end"))
        parts.append(
            element("line", x1=number(x(low)), y1=number(y), x2=number(x(high)), y2=number(y), class_=f"line s{sure}")
        )
        parts.append(element("circle", cx=number(x(middle)), cy=number(y), r=4, class_=f"f{sure}"))
    said = "; ".join(
        f"{label}: {format_(middle)}, from {format_(low)} to {format_(high)}"
        for label, (low, middle, high) in zip(labels, values, strict=True)
    )
    return svg(title, said, floor + BOTTOM, parts)


def columns(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    format_: Format = short,
) -> Html:
    """Vertical bars side by side; for hours, bins, and what else has an order."""
    frame = Frame(0.0, max((value for values in series.values() for value in values), default=0) or 1.0, series)
    parts = [*legend(list(series)), *frame.grid(format_)]
    step = frame.width / max(1, len(labels))
    wide = step * 0.84 / max(1, len(series))
    for colour, values in enumerate(series.values()):
        for place, value in enumerate(values):
            left = LEFT + place * step + step * 0.08 + colour * wide
            parts.append(rect(left, frame.y(value), wide, frame.floor - frame.y(value), colour))
    parts += frame.names(labels, lambda place: LEFT + (place + 0.5) * step)
    ends = f" from {labels[0]} to {labels[-1]}" if labels else ""
    said = "; ".join(f"{name}{ends}: {in_words(values, format_)}" for name, values in series.items())
    return svg(title, said, frame.height, parts)


def lines(
    title: str,
    labels: Sequence[str],
    drawn: Sequence[Line],
    *,
    format_: Format = short,
    diagonal: bool = False,
    from_zero: bool = True,
) -> Html:
    """Lines over labels at even distances, with a band where a line has an interval.

    Args:
        title: For who cannot see the chart.
        labels: (K,) below the axis.
        drawn: The lines, each (K,).
        format_: Of the numbers on the axis.
        diagonal: Also draw from the lower left to the upper right, to compare with.
        from_zero: Whether the axis holds 0; without it, small differences can be seen.
    """
    known = [(*line.y, *(line.low or ()), *(line.high or ())) for line in drawn]
    frame = frame_of([value for values in known for value in values if value is not None], drawn, from_zero)
    step = frame.width / max(1, len(labels) - 1)

    def x(place: int) -> float:
        return LEFT + (place * step if len(labels) > 1 else frame.width / 2)

    parts = [*legend([line.name for line in drawn]), *frame.grid(format_)]
    if diagonal:
        ends = {"x1": LEFT, "y1": number(frame.floor), "x2": number(WIDTH - RIGHT), "y2": number(frame.y(1.0))}
        parts.append(element("line", class_="axis d2", **ends))
    for colour, line in enumerate(drawn):
        colour %= COLOURS
        if line.low is not None and line.high is not None:
            there = [(x(place), frame.y(value)) for place, value in enumerate(line.high)]
            back = [(x(place), frame.y(value)) for place, value in enumerate(line.low)][::-1]
            points = " ".join(f"{number(left)},{number(top)}" for left, top in there + back)
            parts.append(element("polygon", points=points, class_=f"f{colour} band"))
        for run in _runs(line.y):
            points = " ".join(f"{number(x(place))},{number(frame.y(value))}" for place, value in run)
            parts.append(element("polyline", points=points, class_=f"line s{colour} d{colour}"))
            if len(run) == 1 or len(labels) <= 30:
                parts += [
                    element("circle", cx=number(x(place)), cy=number(frame.y(value)), r=2.5, class_=f"f{colour}")
                    for place, value in run
                ]
    parts += frame.names(labels, x)
    between = f" from {labels[0]} to {labels[-1]}" if labels else ""
    said = "; ".join(
        f"{line.name}{between}: {in_words([value for value in line.y if value is not None], format_)}" for line in drawn
    )
    return svg(title, said, frame.height, parts)


def points(
    title: str,
    x: Sequence[float],
    y: Sequence[float],
    *,
    labels: Sequence[str] = (),
    logarithmic: bool = False,
    format_: Format = short,
) -> Html:
    """Points (K,) by two numbers; the axis of neither begins at 0 for its own sake.

    Args:
        title: For who cannot see the chart.
        x, y: The points.
        labels: Where given, of the values 0, 1, ... of x.
        logarithmic: Whether x is drawn by its logarithm.
        format_: Of the numbers on both axes.
    """
    frame = frame_of(y, (), False)
    scaled = [math.log10(value) if logarithmic else value for value in x]
    low, high = (0.0, float(len(labels) - 1)) if labels else (min(scaled), max(scaled))
    margin = frame.width * (0.5 / len(labels) if labels else 0.04)

    def at(value: float) -> float:
        inside = (value - low) / (high - low) if high > low else 0.5
        return LEFT + margin + (frame.width - 2 * margin) * inside

    parts = frame.grid(format_)
    parts += [
        element("circle", cx=number(at(left)), cy=number(frame.y(top)), r=3.5, class_="f0")
        for left, top in zip(scaled, y, strict=True)
    ]
    if labels:
        parts += frame.names(labels, at)
    else:
        for value, anchor in ((low, "start"), (high, "end")) if high > low else ((low, "middle"),):
            text = format_(10**value if logarithmic else value)
            parts.append(element("text", text, x=number(at(value)), y=number(frame.floor + 15), text_anchor=anchor))
    said = "; ".join(
        f"{labels[round(left)] if labels else format_(left)}: {format_(top)}" for left, top in zip(x, y, strict=True)
    )
    return svg(title, said, frame.height, parts)


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]
