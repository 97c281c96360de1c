"""The section `augmentation`: how training examples are varied, anew in every epoch."""

from __future__ import annotations

from pydantic import Field, model_validator

from pipelines.recipe.section import Section, Share


class HistoryAugmentation(Section):
    """Of the histories of training steps; validation, test and what is served see them as they are."""

    crop: Share = Field(0.0, description="share of the events cut off around a run of events that is kept")
    mask: Share = Field(0.0, description="share of the events that are left out")
    substitute: Share = Field(0.0, description="share of the items that a similar one takes the place of")
    neighbours: int = Field(10, ge=1, le=1000, description="most similar items, of which the substitute is drawn")
    reorder: Share = Field(0.0, description="share of the events, in one run, whose order is drawn anew")

    @property
    def used(self) -> bool:
        return max(self.crop, self.mask, self.substitute, self.reorder) > 0


class TextAugmentation(Section):
    """Of the texts of items: further views of each, encoded once; with fine_tuning, tokens dropped in every step."""

    token_dropout: Share = Field(0.1, description="share of the words, or with fine_tuning of the tokens, left out")
    swap_fields: float = Field(0.0, ge=0, le=1, description="share of the views in which title and body change places")
    views: int | None = Field(
        None, ge=1, le=32, description="of each item, of which a positive draws one, or the item itself; null is 2"
    )

    @model_validator(mode="after")
    def _something(self) -> TextAugmentation:
        if not (self.token_dropout or self.swap_fields):
            raise ValueError("one of token_dropout and swap_fields must be above zero")
        return self

    @property
    def views_of_each(self) -> int:
        return 2 if self.views is None else self.views


class Augmentation(Section):
    history: HistoryAugmentation = HistoryAugmentation()
    text: TextAugmentation | None = None
