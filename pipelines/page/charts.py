"""Charts as inline SVG: horizontal bars, columns, lines with intervals, intervals alone, points, and agreement.

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


def intervals(
    title: str,
    labels: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    format_: Format = short,
    colours: Sequence[int] | None = None,
) -> Html:
    """Points with their intervals, one below the other; values are (low, middle, high).

    Args:
        title: For who cannot see the chart.
        labels: (K,) to the left.
        values: (K, 3) of what is drawn.
        format_: Of the numbers on the axis.
        colours: (K,) places of series. Without them values are differences: there is a line at 0, and a colour for an
            interval above it, one below it and one that holds it. With them the axis need not hold 0.
    """
    near = [each for low, _, high in values for each in (low, high)]
    known = near if colours is not None and near else [0.0, *near]
    ticks = frame_of(known, (), False).ticks
    longest = max((min(len(label), 27) for label in labels), default=0)
    begin, end, step = max(60.0, 14 + 5.9 * longest), 24.0, 24.0
    floor = 10 + step * len(labels)

    def x(value: float) -> float:
        return begin + (WIDTH - begin - end) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts: list[Html] = []
    every = 2 if longest > 16 and len(ticks) > 4 else 1
    for place, tick in enumerate(ticks):
        at, kind = number(x(tick)), "axis" if abs(tick) < 1e-12 and colours is None else "grid"
        parts.append(element("line", x1=at, y1=4, x2=at, y2=number(floor), class_=kind))
        if place % every == 0:
            parts.append(element("text", format_(tick), x=at, y=number(floor + 15), text_anchor="middle"))
    for place, (label, (low, middle, high)) in enumerate(zip(labels, values, strict=True)):
        y = 10 + step * (place + 0.5)
        sure = colours[place] % COLOURS if colours is not None else 0 if low > 0 else 1 if high < 0 else 4
        parts.append(element("text", cut(label, 27), x=number(begin - 8), y=number(y + 4), text_anchor="end"))
        ends = {"x1": number(x(low)), "x2": number(x(high)), "y1": number(y), "y2": number(y)}
        parts.append(element("line", **ends, class_=f"line s{sure}"))
        parts.append(element("circle", cx=number(x(middle)), cy=number(y), r=4, class_=f"f{sure}"))
    said = "; ".join(
        f"{label}: {format_(middle)}, from {format_(low)} to {format_(high)}"
        for label, (low, middle, high) in zip(labels, values, strict=True)
    )
    return svg(title, said, floor + BOTTOM, parts)


def agreement(title: str, values: Sequence[Sequence[float]], *, format_: Format = short) -> Html:
    """What was predicted across, what was observed up with its interval, and the diagonal on which both agree.

    Values are (predicted, low, observed, high), none below 0, in the order of what was predicted. Both axes are alike.
    """
    frame = Frame(0.0, max((each for row in values for each in row), default=0) or 1.0, ())

    def x(value: float) -> float:
        return LEFT + frame.width * value / frame.high

    parts = frame.grid(format_)
    for tick in frame.ticks[1:]:
        anchor = "end" if tick == frame.ticks[-1] else "middle"
        parts.append(element("text", format_(tick), x=number(x(tick)), y=number(frame.floor + 15), text_anchor=anchor))
    ends = {"x1": LEFT, "y1": number(frame.floor), "x2": number(x(frame.high)), "y2": number(frame.y(frame.high))}
    parts.append(element("line", class_="axis d2", **ends))
    for at, low, _, high in values:
        ends = {"x1": number(x(at)), "y1": number(frame.y(low)), "x2": number(x(at)), "y2": number(frame.y(high))}
        parts.append(element("line", **ends, class_="line s0"))
    drawn = [(number(x(at)), number(frame.y(middle))) for at, _, middle, _ in values]
    parts.append(element("polyline", points=" ".join(f"{left},{top}" for left, top in drawn), class_="line s0 thin"))
    parts += [element("circle", cx=left, cy=top, r=3.5, class_="f0") for left, top in drawn]
    said = "; ".join(f"{format_(at)} predicted, {format_(middle)} observed" for at, _, middle, _ in values)
    return svg(title, said, frame.height, parts)


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
    marks: Mapping[int, str] | None = None,
) -> Html:
    """Lines over labels at even distances, with a band where a line has an interval.

    Args:
        title: For who cannot see the chart.
        labels: (K,) below the axis.
        drawn: The lines, each (K,).
        format_: Of the numbers on the axis.
        diagonal: Also draw from the lower left to the upper right, to compare with.
        from_zero: Whether the axis holds 0; without it, small differences can be seen.
        marks: Words by the place of the label that they stand at, each with a line from top to bottom.
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
    for order, (place, word) in enumerate(sorted((marks or {}).items())):
        at = x(place)
        anchor, by = ("end", -4) if at > LEFT + frame.width / 2 else ("start", 4)
        ends = {"x1": number(at), "y1": number(frame.top), "x2": number(at), "y2": number(frame.floor)}
        parts.append(element("line", class_="axis d0 mark", **ends))
        top = number(frame.top + 10 + order % 3 * 13)
        parts.append(element("text", word, x=number(at + by), y=top, text_anchor=anchor))
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
