"""Rules: which measure is watched, where it is too much, and what follows. A file, or Python."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Action = Literal["alert", "retrain"]


class BadRules(ValueError):
    """One sentence says what is wrong with them.

    Example:
        >>> from pathlib import Path
        >>> from serving import BadRules, Rules
        >>> _ = Path("rules.yaml").write_text("rules: [{name: quiet}]")
        >>> try:
        ...     Rules.load("rules.yaml")
        ... except BadRules as error:
        ...     print("rules.yaml" in str(error))
        True
    """


class Rule(BaseModel):
    """A threshold on one measure.

    It is raised when the measure was beyond the threshold in `windows` windows in a row, and cleared when it is back
    behind `clears_at`; between the two nothing changes. What is raised acts once, and an `action` of `retrain` again
    after each `cool_down_hours` in which that did not help. A window in which the measure is not known changes nothing.

    Args:
        name: For people; different in each.
        metric: Of `measures.measure`, or of a drift: `psi.language`, `ks.dwell_seconds`, `centroid.embedding`,
            `drift.language` (1 where it has drifted), `drifting` (how many features have); `ctr_change`,
            `model_age_hours`, `new_events`.
        variant, slice: Of the measure; "" for all.
        above, below: The threshold: one of them.
        clears_at: The threshold by default.
        windows: In a row, before it is raised.
        cool_down_hours: From one action to the next.
        sure: Beyond only counts where all of the measure's 95 % interval is.
        least_count: Of what the measure is of; with fewer it counts as not known.

    Example:
        >>> from serving import Rule
        >>> rule = Rule(name="clicks fall", metric="ctr", below=0.02, clears_at=0.03, windows=2, action="retrain")
        >>> rule.threshold, rule.beyond(0.01, rule.threshold)
        (0.02, True)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    metric: str = Field(min_length=1)
    variant: str = ""
    slice: str = ""
    above: float | None = None
    below: float | None = None
    clears_at: float | None = None
    windows: int = Field(1, ge=1)
    cool_down_hours: float = Field(24.0, ge=0)
    sure: bool = False
    least_count: int = Field(0, ge=0)
    action: Action = "alert"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"rule {self.name} needs one of above and below")
        wrong = self.clears_at is not None and (
            (self.above is not None and self.clears_at > self.above)
            or (self.below is not None and self.clears_at < self.below)
        )
        if wrong:
            raise ValueError(f"rule {self.name} would be cleared while it is raised: clears_at is beyond the threshold")
        return self

    @property
    def threshold(self) -> float:
        return self.above if self.above is not None else self.below  # type: ignore[return-value]

    def beyond(self, value: float, threshold: float) -> bool:
        return value > threshold if self.above is not None else value < threshold


# Sizes of traffic and catalogues differ: whoever has a busier site than a small newsroom will raise `new-data`.
DEFAULT = (
    Rule(name="drift", metric="drifting", above=0),
    Rule(name="drift-lasts", metric="drifting", above=0, windows=3, action="retrain"),
    Rule(name="clicks-fall", metric="ctr_change", below=-0.2, clears_at=-0.1, sure=True),
    Rule(name="fallbacks", metric="fallback_rate", above=0.05, clears_at=0.02, sure=True),
    Rule(name="slow", metric="latency_p99_ms", above=100, clears_at=80, windows=2, least_count=100),
    Rule(name="model-age", metric="model_age_hours", above=7 * 24, action="retrain"),
    Rule(name="new-data", metric="new_events", above=100_000, action="retrain"),
)


class Rules(BaseModel):
    """Rules with different names; the default ones where none are given.

    Args:
        rules: Judged in this order.

    Example:
        >>> from serving import Rule, Rules
        >>> "drift" in [rule.name for rule in Rules().rules]
        True
        >>> [rule.name for rule in Rules(rules=(Rule(name="quiet", metric="slates", below=1),)).rules]
        ['quiet']
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...] = DEFAULT

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are called {twice[0]}")
        return self

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a YAML or JSON file: `rules: [{name: ..., metric: ..., above: ...}, ...]`.

        Raises:
            BadRules: It is not there, or says what no rule says.
        """
        try:
            return cls.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise BadRules(f"{path}: {where + ': ' if where else ''}{message}.") from None
        except yaml.YAMLError as error:
            raise BadRules(f"{path} is no YAML ({str(error).splitlines()[0]}).") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BadRules(f"{path} cannot be read ({error}).") from None
