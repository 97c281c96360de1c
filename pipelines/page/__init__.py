"""Reports as one HTML file: sections, tables and charts, without a script and without an outside address."""

from pipelines.page.charts import Line, agreement, bars, columns, intervals, lines, points
from pipelines.page.markup import Html, element, join
from pipelines.page.page import badge, cards, figure, folded, page, section, table

__all__ = [
    "Html",
    "Line",
    "agreement",
    "badge",
    "bars",
    "cards",
    "columns",
    "element",
    "figure",
    "folded",
    "intervals",
    "join",
    "lines",
    "page",
    "points",
    "section",
    "table",
]
