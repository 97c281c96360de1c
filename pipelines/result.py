"""What a step returns: for programs a dict, for readers lines, for plots rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Lines = Callable[[dict[str, Any]], list[str]]
Rows = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Result(dict[str, Any]):
    """A dict that is ready for JSON, and that prints as the command line shows it.

    Args:
        values: What was found, such as a run's metrics.
        lines: Makes the plain text of it.
        rows: Makes the rows of its table; what has no table has no rows.

    Example:
        >>> from pipelines import Result
        >>> found = Result({"ctr": 0.25}, lambda found: [f"{found['ctr']:.0%} clicked"], lambda found: [found])
        >>> print(found)
        25% clicked
        >>> found["ctr"], found.rows()
        (0.25, [{'ctr': 0.25}])
    """

    def __init__(self, values: Mapping[str, Any], lines: Lines, rows: Rows | None = None) -> None:
        super().__init__(values)
        self._lines, self._rows = lines, rows

    def lines(self) -> list[str]:
        """Aligned plain text, a line each."""
        return self._lines(self)

    def rows(self) -> list[dict[str, Any]]:
        """The table's rows, flat, as `pandas.DataFrame` takes them; none where the step makes no table."""
        return [] if self._rows is None else self._rows(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())
