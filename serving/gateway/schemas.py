"""What is sent and answered, as the API's document describes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from serving.gateway.pictures import MOST_BYTES, picture


def _only_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("it must be a number")
    return value


def _only_digits(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch("-?[0-9]+", value):
        raise ValueError("it must be a whole number")
    return value


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError("it must be a time such as 2026-01-01T12:00:00Z")
    return value


# A line of an answer file is tab-separated ids; PostgreSQL knows no NUL, and indexes 2,704 bytes at most, of which a
# character may take 4.
Id = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
Word = Annotated[str, StringConstraints(max_length=1_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Prose = Annotated[str, StringConstraints(max_length=1_000_000, pattern=r"^[^\x00]*$")]
Kind = Literal["impression", "click", "read", "like", "share", "save", "dislike", "rating"]
Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]
Picture = Annotated[
    bytes,
    BeforeValidator(picture),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "maxLength": 4 * (MOST_BYTES // 3 + 1),
            "description": "a JPEG or PNG file",
        }
    ),
]
# Neither `true` nor "5" is a number, though pydantic counts them as such. After the bounds, or the document loses them.
NUMBER = BeforeValidator(_only_number)
# In a query everything is text, of which pydantic would take white space and other scripts' digits too.
DIGITS = BeforeValidator(_only_digits)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE = ConfigDict(extra="forbid", allow_inf_nan=False)


class Filters(BaseModel):
    """Only items of these languages and of these categories; an empty list is no filter."""

    model_config = _BASE
    languages: Annotated[list[Word], Field(max_length=100)] = []
    categories: Annotated[list[Word], Field(max_length=100)] = []


class Context(BaseModel):
    """What the model is told of the moment. The time is the server's where none is given; what is on offer is so by
    the server's in any case."""

    model_config = _BASE
    language: Word = ""
    device: Word = ""
    time_seconds: Annotated[int | None, Field(ge=0, le=4_102_444_800, description="since 1970, UTC"), NUMBER] = None


class RecommendationRequest(BaseModel):
    """Whom to recommend what."""

    model_config = _BASE
    user_id: Id
    k: Annotated[int, Field(ge=1, le=1_000, description="items; the server has a limit of its own"), NUMBER] = 10
    placement: Word = "home"
    filters: Filters = Filters()
    exclude: Annotated[list[Id], Field(max_length=1_000, description="items not to show")] = []
    context: Context = Context()


class ModelName(BaseModel):
    """The model that answered; the version is null where none did."""

    name: str
    version: int | None


class RecommendedItem(BaseModel):
    """An item, with a true reason for it."""

    item_id: str
    score: float
    position: Annotated[int, Field(description="from 0")]
    reason: str


class Recommendations(BaseModel):
    """An answer. Send `request_id` with the events of what was shown."""

    request_id: str
    model: ModelName
    variant: str
    items: list[RecommendedItem]
    fallback: Annotated[
        Literal["default", "stale", "trending", "newest"] | None,
        Field(description="what stood in for the model, or null"),
    ]


FUTURE_SECONDS = 300
_AT = (
    "by default now. Clocks differ: a time up to 5 minutes later than the server's counts as now; what is later still"
    " is refused with 422"
)


class Event(BaseModel):
    """What a user did to an item. An `event_id` counts once, however often it is sent."""

    model_config = _BASE
    event_id: Id
    user_id: Id
    item_id: Id
    kind: Kind
    at: Annotated[Moment | None, Field(description=_AT)] = None
    request_id: Id | None = None
    position: Annotated[int | None, Field(ge=0, le=2**31 - 1), NUMBER] = None
    dwell_seconds: Annotated[float | None, Field(ge=0, le=1e9), NUMBER] = None
    scroll_depth: Annotated[float | None, Field(ge=0, le=1), NUMBER] = None
    value: Annotated[float | None, Field(ge=-1e30, le=1e30, description="the rating, where kind is rating"), NUMBER] = (
        None
    )
    propensity: Annotated[float | None, Field(gt=0, le=1), NUMBER] = None
    variant: Word | None = None
    device: Word | None = None


class Events(BaseModel):
    """Several events."""

    model_config = _BASE
    events: Annotated[list[Event], Field(min_length=1, max_length=1_000)]


class EventsAccepted(BaseModel):
    """All are on disk; `new` of them were not there before."""

    accepted: int
    new: int


class Item(BaseModel):
    """What is known of an item."""

    model_config = _BASE
    title: Prose = ""
    body: Prose = ""
    language: Word = ""
    category: Word = ""
    tags: Annotated[list[Word], Field(max_length=100)] = []
    published_at: Moment | None = None
    image: Picture | None = None


class NamedItem(Item):
    """An item with its id."""

    item_id: Id


class Items(BaseModel):
    """Several items."""

    model_config = _BASE
    items: Annotated[list[NamedItem], Field(min_length=1, max_length=1_000)]


class ItemStored(BaseModel):
    """The item is on disk. `live` says whether it can be recommended already; if not, it will be in a moment."""

    item_id: str
    on_offer: bool
    live: bool


class ItemsStored(BaseModel):
    """The items are on disk, and are made ready to be recommended in the background."""

    items: int


class UserErased(BaseModel):
    """How many rows of the user's there were."""

    rows: int


class Failure(BaseModel):
    """One sentence that says what is wrong, and what to do."""

    error: str


class Health(BaseModel):
    """Whether requests may be sent here."""

    status: Literal["ok", "ready", "starting", "stopping"]
    model: ModelName | None = None
    items: int | None = None
    live_items: int | None = None


def microseconds(moment: datetime | None) -> int | None:
    """Since 1970."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
