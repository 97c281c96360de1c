"""What the charts of a page are drawn with: a frame with axes, a legend, numbers, and the SVG around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pipelines.page.markup import Html, element

# A phone's width, so that letters keep their size there.
WIDTH = 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 8.0, 22.0
COLOURS = 5
_PLOT = 170.0  # height between the axes

Format = Callable[[float], str]


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


def frame_of(values: Sequence[float], names: Sequence[object], from_zero: bool) -> Frame:
    """The frame that holds these values; `from_zero` says whether it holds 0 too."""
    if from_zero or not values:
        return Frame(min(0.0, *values, 0.0), max(values, default=0) or 1.0, names)
    low, high = min(values), max(values)
    return Frame(low, high if high > low else low + max(abs(low) / 100, 1e-6), names)


class Frame:
    """The axes of a chart whose values run from `low` to `high`."""

    def __init__(self, low: float, high: float, names: Sequence[object] | Mapping[str, object]) -> None:
        self.ticks = round_ticks(low, high)
        self.low, self.high = self.ticks[0], self.ticks[-1]
        self.top = TOP + legend_height(names)
        self.floor = self.top + _PLOT
        self.height = self.floor + BOTTOM
        self.width = WIDTH - LEFT - RIGHT

    def y(self, value: float) -> float:
        return self.floor - _PLOT * (value - self.low) / (self.high - self.low)

    def grid(self, format_: Format) -> list[Html]:
        parts = []
        for tick in self.ticks:
            y = number(self.y(tick))
            kind = "axis" if tick == self.low else "grid"
            parts.append(element("line", x1=LEFT, y1=y, x2=WIDTH - RIGHT, y2=y, class_=kind))
            parts.append(element("text", format_(tick), x=LEFT - 5, y=number(self.y(tick) + 4), text_anchor="end"))
        return parts

    def names(self, labels: Sequence[str], x: Callable[[int], float]) -> list[Html]:
        """As many labels as there is room for, the first and the last among them."""
        longest = max((min(len(label), 12) for label in labels), default=1)
        room = max(1, int(self.width // (longest * 6.5 + 16)))
        every = max(1, math.ceil((len(labels) - 1) / max(1, room - 1))) if len(labels) > 1 else 1
        return [
            element("text", cut(labels[place], 12), x=number(x(place)), y=number(self.floor + 15), text_anchor=anchor)
            for place in range(0, len(labels), every)
            for anchor in ["end" if x(place) > WIDTH - longest * 3.3 else "middle"]
        ]


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, about four."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each * 4 >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [each * step for each in range(first, max(last, first + 1) + 1)]


def legend_height(names: Sequence[object] | Mapping[str, object]) -> float:
    """How much room a legend takes above a chart."""
    return 18.0 * math.ceil(len(names) / 3) if len(names) > 1 else 0.0


def legend(names: Sequence[str]) -> list[Html]:
    """The names of the series, where there are several."""
    if len(names) < 2:
        return []
    parts = []
    for place, name in enumerate(names):
        x, y = 4 + place % 3 * 118.0, 4 + place // 3 * 18.0
        parts += [rect(x, y, 10, 10, place), element("text", cut(name, 16), x=x + 15, y=y + 9)]
    return parts


def svg(title: str, description: str, height: float, parts: Sequence[Html]) -> Html:
    """The chart as an element, with a title and a description."""
    # Named by a label and not by ids, which two charts of one page could share.
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {number(WIDTH)} {number(height)}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def rect(x: float, y: float, width: float, height: float, colour: int) -> Html:
    """A filled rectangle in a series' colour."""
    size = {"width": number(max(width, 0.0)), "height": number(max(height, 0.0))}
    return element("rect", x=number(x), y=number(y), **size, class_=f"f{colour % COLOURS}")


def in_words(values: Sequence[float], format_: Format) -> str:
    """A series for who cannot see it."""
    if not values:
        return "no values"
    return (
        f"from {format_(values[0])} to {format_(values[-1])}, least {format_(min(values))}, most {format_(max(values))}"
    )


def cut(text: str, most: int) -> str:
    """A text that is no longer than `most`."""
    return text if len(text) <= most else text[: most - 1] + "…"


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
