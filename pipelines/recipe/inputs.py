"""The sections `data` and `features`: what a model learns from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.recipe.section import Section, Share


class Moments(Section):
    """Where a split by moments cuts, in seconds since 1970; a part begins at its moment, None keeps none of it.

    Before `since`, users are drawn whose examples are replayed; those of the others are history alone.
    """

    since: int
    validation: int | None = None
    test: int | None = None
    replay: float = Field(1.0, ge=0, le=1, description="of the users, drawn by a hash with the training's seed")

    @model_validator(mode="after")
    def _in_order(self) -> Moments:
        cuts = [cut for cut in (self.since, self.validation, self.test) if cut is not None]
        if cuts != sorted(cuts):
            raise ValueError("since, validation and test must be in this order")
        return self


class Split(Section):
    """Which examples are kept for validation (choice of the epoch) and for the test.

    `time` takes the last shares of the time span's examples; `last` takes each user's last event for the test and the
    one before it for validation; `random` takes shares of each user's events, for logs whose order says nothing;
    `users` takes shares of the users, of whom training knows nothing; `items` takes what was done to shares of the
    items, and `language` to the items of one language, of which training knows nothing (where slates are judged, those
    of the last share of time, with the items left out of everything before it); `moments` is by
    time at the moments that it names, as retraining does; `none` trains on everything.

    With `folds`, the test of `users` is the fold's share of the users; that of `time` the block after the first
    `fold + 1` of `folds + 1` equal blocks, with what comes later left out (rolling origin).
    """

    by: Literal["time", "last", "random", "users", "items", "language", "moments", "none"] = "time"
    validation: Share = 0.1
    test: Share = 0.1
    language: str | None = Field(None, description="of the items that are the test, by language")
    moments: Moments | None = None
    folds: int | None = Field(None, ge=2, le=50)
    fold: int = Field(0, ge=0, description="from 0")

    @model_validator(mode="after")
    def _something_left(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave something to train on")
        if (self.by == "language") != (self.language is not None):
            raise ValueError("language goes with by: language")
        if (self.by == "moments") != (self.moments is not None):
            raise ValueError("moments go with by: moments")
        if self.folds is not None and self.by not in ("users", "time"):
            raise ValueError("folds are by users or by time")
        if self.fold >= (self.folds or 1):
            raise ValueError("fold must be below folds")
        return self

    def nothing_held_out(self) -> Split:
        """The same for a run that was trained on validation and test too, so that nobody judges it there."""
        if self.moments is None:
            return Split(by="none")
        return Split(
            by="moments",
            validation=0.0,
            test=0.0,
            moments=self.moments.model_copy(update={"validation": None, "test": None}),
        )


class Data(Section):
    split: Split = Split()
    examples: Literal["auto", "impressions", "interactions"] = Field(
        "auto", description="positives of slates, all positives, or slates where the dataset has any"
    )
    histories: Literal["before", "others"] = Field(
        "before",
        description="what a positive is predicted from in training: the events before it, or all the user's others in "
        "random order, for logs whose order says nothing",
    )
    positive_rating: float | None = Field(None, description="ratings below are no positives; null counts all")


class Text(Section):
    preset: str = Field("minilm", description="`minilm`, a preset folder, or a name that keras-hub knows")
    max_tokens: int = Field(64, ge=4, le=512, description="tokens kept of title and body")
    pooling: Literal["mean", "cls", "attention"] = Field("mean", description="attention is learned by fine_tuning")
    fields: Literal["joined", "title", "separate"] = Field(
        "joined", description="title and body as one text, the title alone, or a vector and a projection for each"
    )


class Image(Section):
    preset: str = Field(description="a folder, or a name that keras-hub knows, such as efficientnet_b0_ra_imagenet")
    size: int = Field(128, ge=16, le=1024, description="pixels of a side to which images are cropped and resized")


class Features(Section):
    text: Text | None = Text()
    image: Image | None = None
    category: bool = True
    tags: bool = Field(False, description="an embedding for each tag, added up")
    language: bool = True
    device: bool = Field(True, description="what the user asks from, where the events say it")
    time_of_day: bool = Field(True, description="the hour (UTC) of the request, where the events have times")
    item_id: bool = True
    history: int = Field(50, ge=1, le=1000, description="events kept of a user's history")

    @model_validator(mode="after")
    def _something(self) -> Features:
        if self.text is None and self.image is None and not (self.category or self.tags or self.item_id):
            raise ValueError("one of text, image, category, tags and item_id must be in use")
        return self
