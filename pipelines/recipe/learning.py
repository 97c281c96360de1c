"""The sections `training` and `fine_tuning`: how a model learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.recipe.section import Section

Metric = Literal[
    "auto",
    "auc",
    "mrr",
    "ndcg@5",
    "ndcg@10",
    "precision@5",
    "recall@10",
    "recall@20",
    "ndcg@20",
    "recall@100",
    "ndcg@100",
]


class Training(Section):
    seed: int = Field(17, ge=0)
    epochs: int = Field(6, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    in_batch_weight: float = Field(1.0, ge=0, description="weight of the softmax over the batch, with logQ correction")
    shown_weight: float = Field(1.0, ge=0, description="weight of the softmax over what the request showed")
    shown_negatives: int = Field(4, ge=0, description="shown and not clicked, a positive")
    catalogue_weight: float = Field(
        0.0, ge=0, description="weight of the softmax over all items, for catalogues of some ten thousand that last"
    )
    hard_negatives: int | None = Field(
        None, ge=1, description="of each softmax, only so many negatives count, those with the highest scores"
    )
    dwell_power: float = Field(0.0, ge=0, le=2, description="positives count by their dwell to this power")
    max_examples_per_user: int | None = Field(
        None, ge=1, description="an epoch: the newest, or with data.histories: others, drawn anew each epoch"
    )
    refit: bool = Field(
        False, description="train once more on training and validation together, for as many epochs as were best"
    )
    metric: Metric = Field(
        "auto", description="that chooses the epoch; auto is auc of slates, or else ndcg@10 of the catalogue"
    )
    patience: int = Field(2, ge=1, description="epochs without a better validation metric before it stops")


class Stage(Section):
    """From this epoch on, these transformer layers are trained too."""

    epoch: int = Field(ge=1)
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, strict=False, description="from 0, the lowest"
    )


class FineTuning(Section):
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


class ImageTuning(Section):
    """When the image encoder thaws, as a whole, and how fast it learns."""

    epoch: int = Field(1, ge=1, description="from which on it is trained")
    learning_rate: float = Field(1e-4, gt=0)
    batch_norm: bool = Field(
        False, description="renew the statistics of batch normalisation; for weights that are not pretrained"
    )
    augment: bool = Field(True, description="mirror and move the images of training steps")
    encode: Literal["candidates", "all"] = Field(
        "candidates", description="histories keep the vectors of the epoch before, or are encoded in every step too"
    )
