"""What a gateway can be told: by arguments, or as BELFRY_... in the environment, where secrets belong."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.listening import is_loopback


class Settings(BaseSettings):
    """Times are in the unit that their name says. A value out of range is refused.

    Secrets (the store's and Redis' URL) are not shown when it is printed.

    Example:
        >>> from serving import Settings
        >>> settings = Settings(store_url="store", model="news", deadline_ms=250)
        >>> settings.deadline_ms, settings.is_public, str(settings.store_url)
        (250.0, False, '**********')
    """

    model_config = SettingsConfigDict(env_prefix="BELFRY_", extra="ignore", frozen=True)

    store_url: SecretStr = Field(description="a folder for SQLite, or postgresql://user:password@host/name")
    model_server: str = Field("", description="grpc://host:port or http://host:port; empty for one in this process")
    model: str = Field(description="the model's name")
    label: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
        description="of the model's version that answers, such as champion; empty for the newest",
    )
    variant: str = Field("default", description="in answers and slates, of who is in no experiment")
    # Several gateways need it: without, one's event counts in another's feed only after `state_seconds`.
    redis_url: SecretStr | None = Field(None, description="keep users' caches in Redis")

    redis_ms: float = Field(25.0, gt=0, description="after which Redis counts as away")

    bind: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    drain_seconds: int = Field(20, ge=0)

    # Answers
    deadline_ms: float = Field(100.0, gt=0, le=5_000, description="after which a fallback answers")
    history: int = Field(50, ge=1, le=1_000, description="events of a user that the model is told")
    seen: int = Field(200, ge=1, le=10_000, description="events looked back at for what is not shown again")
    positive_rating: float | None = Field(None, description="ratings below it are not history")
    category_share: float = Field(0.5, gt=0, le=1, description="of an answer, that one category may have")
    explore: float = Field(0.0, ge=0, le=1, description="share of answers in which one place is drawn at random")
    explore_pool: int = Field(50, ge=1, le=1_000, description="the best items, of which such a place is drawn")
    new_hours: float = Field(24.0, gt=0, description="how long an item counts as new")
    trending_hours: float = Field(6.0, gt=0, description="events that make a trend")
    trending_users: int = Field(3, ge=1, description="who must have wanted an item")
    trend_seconds: float = Field(15.0, gt=0, le=3_600, description="how often to count them")
    batch: int = Field(32, ge=1, le=1_024, description="requests in one call of the model")
    calls_at_once: int = Field(
        1, ge=1, le=64, description="calls of the model at once: what comes meanwhile shares one"
    )

    # Live items: those that the model's own index does not have
    live_items: int = Field(64, ge=0, le=1_024, description="shown to the model with a request")
    live_kept: int = Field(5_000, ge=0, description="kept at most, the newest")

    # Caches
    cached_users: int = Field(100_000, ge=0)
    state_seconds: float = Field(60.0, ge=0, description="0 for no cache")
    answer_seconds: float = Field(5.0, ge=0, description="0 for no cache")
    stale_seconds: float = Field(3_600.0, ge=0, description="how old an answer may be where the model is away")

    # Limits
    max_body_bytes: int = Field(8 << 20, ge=1_024)
    max_events: int = Field(1_000, ge=1)
    max_k: int = Field(100, ge=1, le=1_000)
    max_bytes_under_way: int = Field(64 << 20, ge=1_024, description="of all bodies at once")
    max_under_way: int = Field(512, ge=1, description="requests at once")
    rate: float = Field(0.0, ge=0, description="requests a second of one key to this gateway; 0 for no limit")
    events_waiting: int = Field(20_000, ge=1, description="events in memory, waiting for the disk")
    slates_waiting: int = Field(5_000, ge=1)
    sync_seconds: float = Field(0.5, gt=0, le=60, description="how often to look for what other replicas changed")
    log_requests: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model_server and not self.model_server.startswith(("grpc://", "http://", "https://")):
            raise ValueError("model_server is grpc://host:port or http://host:port")
        if self.max_bytes_under_way < self.max_body_bytes:
            raise ValueError("max_bytes_under_way holds at least one body of max_body_bytes")
        return self

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the port."""
        return not is_loopback(self.bind)
