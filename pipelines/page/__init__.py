"""Reports as one HTML file: sections, tables and charts, without a script and without an outside address."""

from pipelines.page.charts import Line, bars, columns, intervals, lines, points
from pipelines.page.markup import Html, element, join
from pipelines.page.page import badge, cards, figure, page, section, table

__all__ = [
    "Html",
    "Line",
    "badge",
    "bars",
    "cards",
    "columns",
    "element",
    "figure",
    "intervals",
    "join",
    "lines",
    "page",
    "points",
    "section",
    "table",
]
