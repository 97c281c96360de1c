"""Charts as inline SVG: horizontal bars, columns, lines with intervals, and points.

Each is an image with a title and a description for who cannot see it. Drawn 360 units wide, which is a phone's width,
so that letters keep their size there. No value may be infinite; None is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.page.markup import Html, element

WIDTH = 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 8.0, 22.0
_PLOT = 170.0  # height between the axes
_COLOURS = 5

Format = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """A line of `lines`: y (K,), and where there is an interval, its ends (K,)."""

    name: str
    y: Sequence[float | None]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def short(value: float) -> str:
    """A number for an axis: 0.25, 12, 3.4k, 2M."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def percent(value: float) -> str:
    """A share for an axis."""
    return f"{100 * value:.3g} %"


def bars(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *, format_: Format = short) -> Html:
    """Horizontal bars, a group for each label and a colour for each series; for names and few values."""
    high = max((value for values in series.values() for value in values), default=0) or 1.0
    thick = 14.0 if len(series) == 1 else 12.0
    group = thick * len(series) + 8
    begin, end, top = 118.0, 46.0, 6.0 + _legend_height(series)
    parts: list[Html] = [*_legend(list(series))]
    for place, label in enumerate(labels):
        y = top + place * group
        middle = y + thick * len(series) / 2 + 4
        parts.append(element("text", _cut(label, 18), x=begin - 6, y=_n(middle), text_anchor="end"))
        for colour, values in enumerate(series.values()):
            width = (WIDTH - begin - end) * max(0.0, values[place]) / high
            at = y + colour * thick
            parts.append(_rect(begin, at, max(width, 0.5), thick - 1.5, colour))
            text = element("text", format_(values[place]), x=_n(begin + width + 4), y=_n(at + thick - 3))
            parts.append(text)
    said = "; ".join(
        f"{label}: " + ", ".join(f"{name} {format_(values[place])}" for name, values in series.items())
        for place, label in enumerate(labels)
    )
    return _svg(title, said, top + len(labels) * group + 2, parts)


def intervals(title: str, labels: Sequence[str], values: Sequence[Sequence[float]], *, format_: Format = short) -> Html:
    """Points with their intervals, one below the other, and a line at 0; values are (low, middle, high)."""
    ticks = _ticks(min(0.0, *(low for low, _, _ in values), 0.0), max(0.0, *(high for _, _, high in values), 0.0))
    begin, end, step = 128.0, 24.0, 24.0
    floor = 10 + step * len(labels)

    def x(value: float) -> float:
        return begin + (WIDTH - begin - end) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts: list[Html] = []
    for tick in ticks:
        at, kind = _n(x(tick)), "axis" if abs(tick) < 1e-12 else "grid"
        parts.append(element("line", x1=at, y1=4, x2=at, y2=_n(floor), class_=kind))
        parts.append(element("text", format_(tick), x=at, y=_n(floor + 15), text_anchor="middle"))
    for place, (label, (low, middle, high)) in enumerate(zip(labels, values, strict=True)):
        y = 10 + step * (place + 0.5)
        sure = 0 if low > 0 else 1 if high < 0 else 4
        parts.append(element("text", _cut(label, 20), x=begin - 8, y=_n(y + 4), text_anchor="end"))
        parts.append(element("line", x1=_n(x(low)), y1=_n(y), x2=_n(x(high)), y2=_n(y), class_=f"line s{sure}"))
        parts.append(element("circle", cx=_n(x(middle)), cy=_n(y), r=4, class_=f"f{sure}"))
    said = "; ".join(
        f"{label}: {format_(middle)}, from {format_(low)} to {format_(high)}"
        for label, (low, middle, high) in zip(labels, values, strict=True)
    )
    return _svg(title, said, floor + _BOTTOM, parts)


def columns(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    format_: Format = short,
) -> Html:
    """Vertical bars side by side; for hours, bins, and what else has an order."""
    frame = _Frame(0.0, max((value for values in series.values() for value in values), default=0) or 1.0, series)
    parts = [*_legend(list(series)), *frame.grid(format_)]
    step = frame.width / max(1, len(labels))
    wide = step * 0.84 / max(1, len(series))
    for colour, values in enumerate(series.values()):
        for place, value in enumerate(values):
            left = _LEFT + place * step + step * 0.08 + colour * wide
            parts.append(_rect(left, frame.y(value), wide, frame.floor - frame.y(value), colour))
    parts += frame.names(labels, lambda place: _LEFT + (place + 0.5) * step)
    ends = f" from {labels[0]} to {labels[-1]}" if labels else ""
    said = "; ".join(f"{name}{ends}: {_range(values, format_)}" for name, values in series.items())
    return _svg(title, said, frame.height, parts)


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
    frame = _frame([value for values in known for value in values if value is not None], drawn, from_zero)
    step = frame.width / max(1, len(labels) - 1)

    def x(place: int) -> float:
        return _LEFT + (place * step if len(labels) > 1 else frame.width / 2)

    parts = [*_legend([line.name for line in drawn]), *frame.grid(format_)]
    if diagonal:
        ends = {"x1": _LEFT, "y1": _n(frame.floor), "x2": _n(WIDTH - _RIGHT), "y2": _n(frame.y(1.0))}
        parts.append(element("line", class_="axis d2", **ends))
    for colour, line in enumerate(drawn):
        colour %= _COLOURS
        if line.low is not None and line.high is not None:
            there = [(x(place), frame.y(value)) for place, value in enumerate(line.high)]
            back = [(x(place), frame.y(value)) for place, value in enumerate(line.low)][::-1]
            points = " ".join(f"{_n(left)},{_n(top)}" for left, top in there + back)
            parts.append(element("polygon", points=points, class_=f"f{colour} band"))
        for run in _runs(line.y):
            points = " ".join(f"{_n(x(place))},{_n(frame.y(value))}" for place, value in run)
            parts.append(element("polyline", points=points, class_=f"line s{colour} d{colour}"))
            if len(run) == 1 or len(labels) <= 30:
                parts += [
                    element("circle", cx=_n(x(place)), cy=_n(frame.y(value)), r=2.5, class_=f"f{colour}")
                    for place, value in run
                ]
    parts += frame.names(labels, x)
    between = f" from {labels[0]} to {labels[-1]}" if labels else ""
    said = "; ".join(
        f"{line.name}{between}: {_range([value for value in line.y if value is not None], format_)}" for line in drawn
    )
    return _svg(title, said, frame.height, parts)


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
    frame = _frame(y, (), False)
    scaled = [math.log10(value) if logarithmic else value for value in x]
    low, high = (0.0, float(len(labels) - 1)) if labels else (min(scaled), max(scaled))
    margin = frame.width * (0.5 / len(labels) if labels else 0.04)

    def at(value: float) -> float:
        inside = (value - low) / (high - low) if high > low else 0.5
        return _LEFT + margin + (frame.width - 2 * margin) * inside

    parts = frame.grid(format_)
    parts += [
        element("circle", cx=_n(at(left)), cy=_n(frame.y(top)), r=3.5, class_="f0")
        for left, top in zip(scaled, y, strict=True)
    ]
    if labels:
        parts += frame.names(labels, at)
    else:
        for value, anchor in ((low, "start"), (high, "end")) if high > low else ((low, "middle"),):
            text = format_(10**value if logarithmic else value)
            parts.append(element("text", text, x=_n(at(value)), y=_n(frame.floor + 15), text_anchor=anchor))
    said = "; ".join(
        f"{labels[round(left)] if labels else format_(left)}: {format_(top)}" for left, top in zip(x, y, strict=True)
    )
    return _svg(title, said, frame.height, parts)


def _frame(values: Sequence[float], names: Sequence[object], from_zero: bool) -> _Frame:
    if from_zero or not values:
        return _Frame(min(0.0, *values, 0.0), max(values, default=0) or 1.0, names)
    low, high = min(values), max(values)
    return _Frame(low, high if high > low else low + max(abs(low) / 100, 1e-6), names)


class _Frame:
    """The axes of a chart whose values run from `low` to `high`."""

    def __init__(self, low: float, high: float, names: Sequence[object] | Mapping[str, object]) -> None:
        self.ticks = _ticks(low, high)
        self.low, self.high = self.ticks[0], self.ticks[-1]
        self.top = _TOP + _legend_height(names)
        self.floor = self.top + _PLOT
        self.height = self.floor + _BOTTOM
        self.width = WIDTH - _LEFT - _RIGHT

    def y(self, value: float) -> float:
        return self.floor - _PLOT * (value - self.low) / (self.high - self.low)

    def grid(self, format_: Format) -> list[Html]:
        parts = []
        for tick in self.ticks:
            y = _n(self.y(tick))
            kind = "axis" if tick == self.low else "grid"
            parts.append(element("line", x1=_LEFT, y1=y, x2=WIDTH - _RIGHT, y2=y, class_=kind))
            parts.append(element("text", format_(tick), x=_LEFT - 5, y=_n(self.y(tick) + 4), text_anchor="end"))
        return parts

    def names(self, labels: Sequence[str], x: Callable[[int], float]) -> list[Html]:
        """As many labels as there is room for, the first and the last among them."""
        longest = max((min(len(label), 12) for label in labels), default=1)
        room = max(1, int(self.width // (longest * 6.5 + 16)))
        every = max(1, math.ceil((len(labels) - 1) / max(1, room - 1))) if len(labels) > 1 else 1
        return [
            element("text", _cut(labels[place], 12), x=_n(x(place)), y=_n(self.floor + 15), text_anchor=anchor)
            for place in range(0, len(labels), every)
            for anchor in ["end" if x(place) > WIDTH - longest * 3.3 else "middle"]
        ]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, about four."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each * 4 >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [each * step for each in range(first, max(last, first + 1) + 1)]


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]


def _legend_height(names: Sequence[object] | Mapping[str, object]) -> float:
    return 18.0 * math.ceil(len(names) / 3) if len(names) > 1 else 0.0


def _legend(names: Sequence[str]) -> list[Html]:
    if len(names) < 2:
        return []
    parts = []
    for place, name in enumerate(names):
        x, y = 4 + place % 3 * 118.0, 4 + place // 3 * 18.0
        parts += [_rect(x, y, 10, 10, place), element("text", _cut(name, 16), x=x + 15, y=y + 9)]
    return parts


def _svg(title: str, description: str, height: float, parts: Sequence[Html]) -> Html:
    # Named by a label and not by ids, which two charts of one page could share.
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {_n(WIDTH)} {_n(height)}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def _rect(x: float, y: float, width: float, height: float, colour: int) -> Html:
    size = {"width": _n(max(width, 0.0)), "height": _n(max(height, 0.0))}
    return element("rect", x=_n(x), y=_n(y), **size, class_=f"f{colour % _COLOURS}")


def _range(values: Sequence[float], format_: Format) -> str:
    if not values:
        return "no values"
    return (
        f"from {format_(values[0])} to {format_(values[-1])}, least {format_(min(values))}, most {format_(max(values))}"
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
