"""The sections `towers`, `ranking` and `export`: what a model is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.recipe.section import Section, Share


class Towers(Section):
    width: int = Field(384, ge=8, le=1024, description="D, of every embedding")
    projection: Literal["auto", "train", "keep"] = Field(
        "auto", description="learn the projection of the text, or keep it; auto decides by the number of examples"
    )
    dropout: Share = 0.2
    id_dropout: Share = 0.1
    hidden: tuple[Annotated[int, Field(ge=4, le=2048)], ...] = Field(
        (),
        strict=False,
        description="widths of hidden layers with batch normalisation, over the sum of an item's inputs",
    )
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


Feature = Literal["retrieval", "nearest", "category", "tags", "appeal", "click_rate", "clicks", "freshness", "history"]


class Ranking(Section):
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


class Linear(Section):
    """A linear item-to-item model beside the towers: strong where a catalogue lasts and is read by many."""

    regularisation: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (400.0, 100.0, 200.0, 800.0, 1600.0), min_length=1, strict=False, description="tried; the first is the default"
    )
    decay: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, strict=False, description="tried: weight of an event relative to the one after it"
    )
    rank: int = Field(256, ge=1, le=8192, description="eigenvectors kept of it; all, where there are no more items")
    items: int = Field(10_000, ge=2, le=20_000, description="of the catalogue, the most read")


class Specialists(Section):
    """Copies of the towers that go on to learn from one slice each."""

    by: Literal["language", "device", "category"]
    examples: int = Field(500, ge=2, description="that a slice must have to get one")


class Ensemble(Section):
    """Further models, whose weights beside the towers are learned on the validation part."""

    linear: Linear | None = None
    specialists: Specialists | None = None
    weights: Literal["all", "language", "device", "category"] = Field(
        "all", description="one set of weights for all, or one for each slice, drawn towards that of all"
    )

    @model_validator(mode="after")
    def _somebody(self) -> Ensemble:
        if self.linear is None and self.specialists is None:
            raise ValueError("name linear, specialists or both")
        return self

    @property
    def slices(self) -> set[str]:
        """By what there are specialists or weights."""
        found: set[str] = {self.weights, *([self.specialists.by] if self.specialists else [])}
        return found - {"all"}


IndexKind = Literal["exact", "scann"]


class Export(Section):
    top_k: int = Field(100, ge=1, description="items that `recommend` returns")
    index: IndexKind = Field(
        "exact", description="scann is for catalogues beyond 100 thousand, and needs a server built with its ops"
    )
    least_recall: float = Field(
        0.95, gt=0, le=1, description="share of the exact first ten that scann must find, else nothing is exported"
    )
