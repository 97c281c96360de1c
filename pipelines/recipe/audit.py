"""The section `audit`: from which number on a check of the data is a warning, and from which an error."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from pipelines.recipe.section import Section


class Limit(Section):
    """A number above `warning` is a warning, above `error` an error; null never."""

    warning: float | None = None
    error: float | None = None

    def severity(self, value: float) -> str | None:
        """`error`, `warning`, or None where the number is within both."""
        if self.error is not None and value > self.error:
            return "error"
        return "warning" if self.warning is not None and value > self.warning else None

    def exceeded(self, value: float) -> float | None:
        """The threshold that was passed."""
        severity = self.severity(value)
        return None if severity is None else getattr(self, severity)


def _limit(warning: float | None, error: float | None, description: str) -> Any:
    return Field(Limit(warning=warning, error=error), description=description)


class Audit(Section):
    """A limit for each check of `belfry data audit`; null turns the check off.

    A limit that names only one of `warning` and `error` keeps the default of the other.
    """

    # What a column holds.
    missing_ids: Limit | None = _limit(None, 0.0, "share of rows without an id, kind or time")
    missing_values: Limit | None = _limit(
        0.2, None, "share of nulls, where the column is filled at all and is expected"
    )
    commonest_value: Limit | None = _limit(0.5, None, "share of the commonest value of a measurement or a moment")
    out_of_range: Limit | None = _limit(0.0, 0.01, "share of impossible dwells, depths, positions and propensities")
    unknown_kinds: Limit | None = _limit(None, 0.0, "share of events of a kind that is not in the schema")
    no_positives: Limit | None = _limit(None, 0.0, "1 where no event says that a user wanted an item")
    # Repeats.
    duplicate_event_ids: Limit | None = _limit(None, 0.0, "share of events with the event_id of another")
    duplicate_events: Limit | None = _limit(0.001, 0.05, "share of events that repeat user, item, kind and moment")
    duplicate_items: Limit | None = _limit(None, 0.0, "share of items with the item_id of another")
    duplicate_users: Limit | None = _limit(None, 0.0, "share of users with the user_id of another")
    duplicate_titles: Limit | None = _limit(0.05, None, "share of items with the title of another, in one language")
    # What belongs together.
    unknown_items: Limit | None = _limit(0.01, None, "share of events whose item is not in the catalogue")
    unknown_users: Limit | None = _limit(0.01, None, "share of events whose user is not in the table of users")
    unused_items: Limit | None = _limit(0.5, None, "share of the catalogue without an event")
    language_mismatch: Limit | None = _limit(0.5, None, "share of positives in another language than the user's")
    shared_requests: Limit | None = _limit(0.0, 0.01, "share of requests that several users have")
    click_without_impression: Limit | None = _limit(0.01, 0.2, "share of a request's positives that it did not show")
    click_before_impression: Limit | None = _limit(0.0, 0.01, "share of positives earlier than they were shown")
    # Times.
    before_1990: Limit | None = _limit(0.0, 0.001, "share of events before 1990")
    after_now: Limit | None = _limit(0.0, 0.001, "share of events later than now")
    outside_time_range: Limit | None = _limit(0.0, None, "share of events outside of dataset.json's time range")
    time_gaps: Limit | None = _limit(0.0, None, "days without an event between the first and the last")
    coarse_times: Limit | None = _limit(0.2, None, "share of events at the commonest second of the day")
    before_joining: Limit | None = _limit(0.01, None, "share of events before the user's created_at")
    before_publication: Limit | None = _limit(0.0, 0.01, "share of events before the item's published_at")
    after_removal: Limit | None = _limit(0.001, 0.05, "share of events two hours or more after the item's removed_at")
    # Positions.
    position_gaps: Limit | None = _limit(0.0, None, "positions that no impression has, above ones that have")
    dead_positions: Limit | None = _limit(0.0, None, "positions without a positive, where twenty were to be expected")
    position_jumps: Limit | None = _limit(1.5, None, "times by which a position's label rate exceeds those before it")
    repeated_positions: Limit | None = _limit(0.001, None, "share of impressions at a place that another item has")
    # Popularity.
    item_share: Limit | None = _limit(0.1, 0.3, "share of the positives that one item has")
    user_share: Limit | None = _limit(0.02, 0.2, "share of the events that one user has")
    gini: Limit | None = _limit(0.99, None, "Gini coefficient of positives over the items that have any")
    # Leakage between the parts of the recipe's split.
    split_empty: Limit | None = _limit(0.0, None, "parts that the split asks for and that have no example")
    split_shared: Limit | None = _limit(0.01, 0.1, "share of a slate's positives that are in another part than it")
    split_order: Limit | None = _limit(0.0, None, "share of held-out positives before one that the user trains with")
    split_repeats: Limit | None = _limit(
        0.1, None, "share of held-out positives that the user has in an earlier part too"
    )
    twin_users: Limit | None = _limit(0.02, None, "share of users with ten items or more whose items another has too")
    # Drift between the two windows.
    drift_psi: Limit | None = _limit(0.25, None, "population stability index of a column")
    drift_ks: Limit | None = _limit(0.3, None, "Kolmogorov-Smirnov distance of a column of numbers, 0 to 1")

    @model_validator(mode="before")
    @classmethod
    def _keep_the_other(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        known = cls.model_fields
        return {
            name: {**known[name].default.model_dump(), **value} if isinstance(value, dict) and name in known else value
            for name, value in given.items()
        }

    def limit(self, check: str) -> Limit | None:
        """The limit of a check, by name."""
        found: Limit | None = getattr(self, check)
        return found
