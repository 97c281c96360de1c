"""What an experiment is: its variants, who is in it, what it is judged by, and what follows."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from serving.experiments.assignment import Split

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Metric = Literal["ctr", "clicks", "dwell"]
Guardrail = Literal["fallback_rate", "latency_ms", "ctr", "clicks", "dwell"]
# Where more of it is worse.
COSTS = ("fallback_rate", "latency_ms")
# Strict: neither `true` nor "0.5" is a number.
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class BadExperiment(ValueError):
    """An experiment that cannot be; the message is one sentence.

    Example:
        >>> from serving import BadExperiment, Experiment
        >>> try:
        ...     Experiment.read({"name": "wider", "variants": {"control": {"share": 0.5}}})
        ... except BadExperiment as error:
        ...     print("variants" in str(error))
        True
    """


class NoExperiment(BadExperiment):
    """There is none of that name."""


class Treatment(BaseModel):
    """What a variant changes of the gateway's settings; None leaves one as it is."""

    model_config = _STRICT

    label: Name | None = Field(None, description="of the model's version that answers")
    category_share: Annotated[float | None, Field(gt=0, le=1)] = None
    explore: Annotated[float | None, Field(ge=0, le=1, description="share of answers in which one place is drawn")] = (
        None
    )
    live_items: Annotated[int | None, Field(ge=0, le=1_024)] = None

    @property
    def changes(self) -> dict[str, Any]:
        """What it sets."""
        return self.model_dump(exclude_none=True)


class Variant(BaseModel):
    """An arm of an experiment."""

    model_config = _STRICT

    share: Annotated[float, Field(gt=0, lt=1)]
    treatment: Treatment = Treatment()


class Limit(BaseModel):
    """How much worse a treatment may be in something: the experiment ends where it surely is worse than that.

    Args:
        metric: A cost may rise by `most`, anything else may fall by it; relative to the control, except for
            `fallback_rate`, which is a share itself.
    """

    model_config = _STRICT

    metric: Guardrail
    most: Annotated[float, Field(ge=0)]


_GUARDRAILS = [Limit(metric="fallback_rate", most=0.02)]


class Experiment(BaseModel):
    """A declared experiment.

    `sequential` compares each other variant with the control, whenever somebody looks, by a confidence sequence
    (`serving.experiments.sequential`); `thompson` shifts shares towards what is probably best; `interleaving` mixes the
    feeds of two variants into one and asks which one's items are clicked.

    Args:
        name: Its own, never used before; letters, digits, `_`, `.` and `-`.
        variants: By name, each with a `share` and a `treatment`; shares add up to 1.
        method: `sequential`, `thompson` or `interleaving`.
        control: The variant that others are compared with.
        layer: Experiments of one layer share no user.
        start, end: The part of the layer's users that may be in it.
        ramp: The share of these that are.
        metric: `ctr`, clicked by shown items; `clicks`, clicked items a user; `dwell`, seconds of dwell by shown items.
            Thompson sampling goes by slates on which something was clicked.
        planned_users: In all variants, at which the test is tightest; where it has not decided by then, it ends without
            a winner.
        longest_hours: After which it ends without a winner too: a site's readers may be fewer than was planned.
        least_users: In every variant before anything but a broken sample ratio is said.
        guardrails: Not of interleaved feeds, of which nobody can tell whose fault it is that one is slow.
        alpha: False alarms allowed, over all looks together and all treatments of an experiment; as many again of each
            guardrail.
        before_hours: Of the time before, whose behaviour is taken out as noise (CUPED); 0 for none.
        on_win: `promote` makes the version behind the winner's label the champion, and retires one that does not win;
            `stop` just ends the experiment.
        on_undecided: `promote` makes the version on trial the champion where no difference was found: it is newer.

    Raises:
        pydantic.ValidationError: It cannot be.

    Example:
        >>> from serving import Experiment
        >>> wider = Experiment(
        ...     name="wider",
        ...     variants={
        ...         "control": {"share": 0.5},
        ...         "wider": {"share": 0.5, "treatment": {"category_share": 0.8}},
        ...     },
        ... )
        >>> wider.method, wider.metric, list(wider.treated)
        ('sequential', 'ctr', ['wider'])
    """

    model_config = _STRICT

    name: Name
    variants: Annotated[dict[Name, Variant], Field(min_length=2, max_length=8)]
    control: Name = "control"
    layer: Name = "default"
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    end: Annotated[float, Field(gt=0, le=1)] = 1.0
    ramp: Annotated[float, Field(ge=0, le=1)] = 1.0
    method: Literal["sequential", "thompson", "interleaving"] = "sequential"
    metric: Metric = "ctr"
    guardrails: list[Limit] = _GUARDRAILS
    planned_users: Annotated[int, Field(ge=100)] = 20_000
    least_users: Annotated[int, Field(ge=2)] = 100
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    longest_hours: Annotated[float, Field(gt=0)] = 28 * 24.0
    before_hours: Annotated[float, Field(ge=0)] = 168.0
    on_win: Literal["promote", "stop"] = "stop"
    on_undecided: Literal["promote", "retire"] = "retire"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.control not in self.variants:
            raise ValueError(f"`control` is {self.control}, which is no variant")
        self.split  # noqa: B018  # says what is wrong with the range or the shares
        if self.method == "interleaving" and (len(self.variants) != 2 or self.metric != "ctr"):
            raise ValueError("interleaving is of two variants, and by clicks: leave `metric` at ctr")
        if self.method == "interleaving" and self.guardrails not in ([], _GUARDRAILS):
            raise ValueError("interleaving has no guardrails: nobody can tell which variant's fault a slow answer is")
        if self.method == "thompson" and self.metric != "ctr":
            raise ValueError("Thompson sampling goes by clicks: leave `metric` at ctr")
        if self.on_win == "promote" and not any(each.treatment.label for each in self.treated.values()):
            raise ValueError("`on_win: promote` needs a treatment with a label of the model")
        return self

    @cached_property
    def split(self) -> Split:
        """Who sees what."""
        shares = {name: self.variants[name].share for name in sorted(self.variants)}
        return Split(self.name, self.layer, self.start, self.end, shares, self.ramp)

    @property
    def treated(self) -> dict[str, Variant]:
        """The others."""
        return {name: each for name, each in self.variants.items() if name != self.control}

    @property
    def changes(self) -> frozenset[str]:
        """The settings that some variant sets."""
        return frozenset(name for each in self.variants.values() for name in each.treatment.changes)

    @classmethod
    def read(cls, content: Any) -> Self:
        """From what JSON or YAML says.

        Raises:
            BadExperiment: It cannot be.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = first["msg"].removeprefix("Value error, ")
            raise BadExperiment(f"{f'{where}: ' if where else ''}{told}.".replace("..", ".")) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a YAML or JSON file.

        Raises:
            BadExperiment: There is none, or it cannot be.
        """
        try:
            return cls.read(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise BadExperiment(f"{path} cannot be read: {error.strerror}.") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise BadExperiment(f"{path} is neither YAML nor JSON.") from None


def conflict(new: Experiment, running: list[Experiment]) -> str | None:
    """Why an experiment cannot run beside others; None where it can."""
    for other in running:
        if other.name == new.name:
            return f"{new.name} is running already"
        if other.layer == new.layer:
            if new.start < other.end and other.start < new.end:
                return (
                    f"{new.name} and {other.name} would share users of layer {new.layer}: give them ranges that do not "
                    "overlap, or another layer"
                )
        elif new.method == other.method == "interleaving":
            return f"{new.name} and {other.name} would mix their feeds into one answer: give them one layer, and ranges"
        elif shared := sorted(new.changes & other.changes):
            return f"{new.name} and {other.name} are in different layers and both set {shared[0]}"
    return None
