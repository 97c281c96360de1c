"""A recipe: one typed file from which a run can be repeated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import BadInput

Share = Annotated[float, Field(ge=0, lt=1)]


class _Loader(yaml.SafeLoader):
    """YAML as people write it: `1e-4` is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice")
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-4 for text, since it has no point.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Split(_Section):
    """Which examples are kept for validation (choice of the epoch) and for the test.

    `time` takes the last shares of the time span's examples; `last` takes each user's last event for the test and the
    one before it for validation; `none` trains on everything.
    """

    by: Literal["time", "last", "none"] = "time"
    validation: Share = 0.1
    test: Share = 0.1

    @model_validator(mode="after")
    def _something_left(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave something to train on")
        return self


class Data(_Section):
    split: Split = Split()
    examples: Literal["auto", "impressions", "interactions"] = Field(
        "auto", description="positives of slates, all positives, or slates where the dataset has any"
    )
    positive_rating: float | None = Field(None, description="ratings below are no positives; null counts all")


class Text(_Section):
    preset: str = Field("minilm", description="`minilm`, a preset folder, or a name that keras-hub knows")
    max_tokens: int = Field(64, ge=4, le=512, description="tokens kept of title and body")
    pooling: Literal["mean", "cls"] = "mean"


class Features(_Section):
    text: Text | None = Text()
    category: bool = True
    tags: bool = Field(False, description="an embedding for each tag, added up")
    language: bool = True
    device: bool = Field(True, description="what the user asks from, where the events say it")
    time_of_day: bool = Field(True, description="the hour (UTC) of the request, where the events have times")
    item_id: bool = True
    history: int = Field(50, ge=1, le=1000, description="events kept of a user's history")

    @model_validator(mode="after")
    def _something(self) -> Features:
        if self.text is None and not (self.category or self.tags or self.item_id):
            raise ValueError("one of text, category, tags and item_id must be in use")
        return self


class Towers(_Section):
    width: int = Field(384, ge=8, le=1024, description="D, of every embedding")
    projection: Literal["auto", "train", "keep"] = Field(
        "auto", description="learn the projection of the text, or keep it; auto decides by the number of examples"
    )
    dropout: Share = 0.2
    id_dropout: Share = 0.1
    history_encoder: Literal["mean", "cnn", "lstm", "gru", "attention", "transformer"] = "gru"
    history_units: int = Field(64, ge=4, le=1024)
    history_layers: int = Field(2, ge=1, le=12, description="of cnn and transformer")
    history_heads: int = Field(2, ge=1, le=64, description="of transformer; they share the units")
    history_dropout: Share = 0.2
    scale: float = Field(10.0, gt=0, description="start of the inverse temperature of the cosine")

    @model_validator(mode="after")
    def _heads_share_the_units(self) -> Towers:
        if self.history_encoder == "transformer" and self.history_units % self.history_heads:
            raise ValueError("history_units must be a multiple of history_heads")
        return self


class Stage(_Section):
    """From this epoch on, these transformer layers are trained too."""

    epoch: int = Field(ge=1)
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, strict=False, description="from 0, the lowest"
    )


class FineTuning(_Section):
    """Which layers of the text encoder thaw when, and how fast they learn. The embedding layer never thaws."""

    stages: tuple[Stage, ...] = Field(min_length=1, strict=False)
    learning_rate: float = Field(2e-5, gt=0, description="of the top layer")
    decay: float = Field(0.9, gt=0, le=1, description="of the learning rate, for each layer below")
    warmup_steps: int = Field(50, ge=0, description="over which all learning rates rise")
    lora_rank: int | None = Field(None, ge=1, le=256)
    encode: Literal["candidates", "all"] = Field(
        "candidates", description="histories keep the vectors of the epoch before, or are encoded in every step too"
    )

    @model_validator(mode="after")
    def _from_the_top(self) -> FineTuning:
        thawed: set[int] = set()
        for before, stage in zip((None, *self.stages), self.stages, strict=False):
            if before is not None and stage.epoch <= before.epoch:
                raise ValueError("stages must be in order of their epochs, each later than the one before")
            if set(stage.layers) <= thawed:
                raise ValueError(f"the stage of epoch {stage.epoch} thaws nothing that is not thawed already")
            thawed |= set(stage.layers)
            if thawed != set(range(min(thawed), max(thawed) + 1)):
                raise ValueError("layers thaw from the top down, without a gap")
            if before is not None and max(thawed) != max(self.stages[0].layers):
                raise ValueError("layers thaw from the top down, without a gap")
        return self

    @property
    def cut(self) -> int:
        """The lowest layer that is ever trained."""
        return min(layer for stage in self.stages for layer in stage.layers)

    def lowest_thawed(self, epoch: int) -> int | None:
        """The lowest layer that is trained in an epoch; None before the first stage."""
        thawed = [layer for stage in self.stages if stage.epoch <= epoch for layer in stage.layers]
        return min(thawed, default=None)


class Training(_Section):
    seed: int = Field(17, ge=0)
    epochs: int = Field(6, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    in_batch_weight: float = Field(1.0, ge=0, description="weight of the softmax over the batch, with logQ correction")
    shown_weight: float = Field(1.0, ge=0, description="weight of the softmax over what the request showed")
    shown_negatives: int = Field(4, ge=0, description="shown and not clicked, a positive")
    max_examples_per_user: int | None = Field(None, ge=1, description="the newest are kept")
    refit: bool = Field(
        False, description="train once more on training and validation together, for as many epochs as were best"
    )
    patience: int = Field(2, ge=1, description="epochs without a better validation metric before it stops")


Feature = Literal["retrieval", "nearest", "category", "tags", "appeal", "click_rate", "clicks", "freshness", "history"]


class Ranking(_Section):
    """The second stage, trained on slates after the towers."""

    features: tuple[Feature, ...] = Field(
        ("retrieval", "nearest", "category", "tags", "appeal", "click_rate", "clicks", "freshness", "history"),
        min_length=1,
        strict=False,
    )
    tasks: dict[Literal["click", "read", "like"], float] = Field(
        {"click": 1.0}, description="what is predicted, and the weight of its log-odds in the order; click is needed"
    )
    crosses: Annotated[int, Field(ge=0, le=8)] | Literal["auto"] = Field(
        "auto", description="DCN-v2 layers; auto decides by the number of requests"
    )
    projection: int = Field(32, ge=2, le=512, description="width to which embeddings are projected for the crosses")
    position: bool = Field(True, description="learn the bias of the position, and rank without it")
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-2, gt=0)
    l2: float = Field(1e-2, ge=0, description="weight of the squared weights of the features")
    appeal_l2: float = Field(3e-2, ge=0, description="weight of the squared weights of the content's appeal")
    dropout: Share = 0.2
    retrieve: int = Field(200, ge=1, description="items that the first stage hands over")

    @model_validator(mode="after")
    def _order_by_something(self) -> Ranking:
        if "click" not in self.tasks or min(self.tasks.values()) < 0 or not any(self.tasks.values()):
            raise ValueError("tasks must hold click, no weight below zero and one above")
        return self

    @property
    def weight_by_task(self) -> dict[str, float]:
        """Click first, since slates are ranked by it in training."""
        return {
            name: weight for task in ("click", "read", "like") for name, weight in self.tasks.items() if name == task
        }


class Export(_Section):
    top_k: int = Field(100, ge=1, description="items that `recommend` returns")


class Recipe(_Section):
    """Data, features, towers, training, ranking and export of one run. An unknown key is an error."""

    data: Data = Data()
    features: Features = Features()
    towers: Towers = Towers()
    fine_tuning: FineTuning | None = None
    training: Training = Training()
    ranking: Ranking | None = None
    export: Export = Export()

    @model_validator(mode="after")
    def _schedule_trains(self) -> Recipe:
        if self.fine_tuning is None:
            return self
        if self.features.text is None:
            raise ValueError("fine_tuning needs features.text")
        late = self.fine_tuning.stages[-1].epoch
        if late > self.training.epochs:
            raise ValueError(f"fine_tuning thaws layers in epoch {late}, but training.epochs is {self.training.epochs}")
        return self

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read a YAML file.

        Raises:
            BadInput: Not YAML, an unknown key, or a value of the wrong type or out of range; the sentence names it.
        """
        path = Path(path)
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except FileNotFoundError:
            raise BadInput(f"the recipe {path} does not exist.") from None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            detail = " ".join(str(error).split())
            raise BadInput(f"the recipe {path} is not a YAML file that can be read ({detail}).") from None
        if not isinstance(content, dict | None):
            raise BadInput(f"the recipe {path} must hold sections such as `towers:`, not a {type(content).__name__}.")
        try:
            return cls.model_validate(content or {})
        except ValidationError as error:
            raise BadInput(f"the recipe {path} cannot be used: {_first(error)}.") from None

    def dump(self) -> str:
        """The resolved recipe as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"]) or "the whole"
    what = "is not a known key" if found["type"] == "extra_forbidden" else found["msg"][0].lower() + found["msg"][1:]
    more = len(error.errors()) - 1
    return (
        f"{where} {what}"
        if found["type"] == "extra_forbidden"
        else f"{where}: {what}" + (f" (and {more} more)" if more else "")
    )
