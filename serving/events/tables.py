"""What is stored. Columns of items and events are called, and mean, as in a dataset folder.

Times (`at`, `..._at`) are microseconds since 1970, UTC: both databases keep and order them exactly.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

# Kinds of events, as in a dataset. Those that say "this user wanted this item" are histories.
KINDS = ("impression", "click", "read", "like", "share", "save", "dislike", "rating")
POSITIVE_KINDS = ("click", "read", "like", "share", "save", "rating")

METADATA = MetaData()

ITEMS = Table(
    "items",
    METADATA,
    Column("item_id", Text, primary_key=True),
    Column("title", Text),
    Column("body", Text),
    Column("language", Text),
    Column("category", Text),
    Column("tags", Text),  # a JSON list
    Column("image", LargeBinary),
    Column("published_at", BigInteger),
    Column("removed_at", BigInteger),
    Column("put_at", BigInteger),  # by the API; null where it came with an import
    Column("changed", BigInteger, nullable=False),  # the counter's value at its last change
    Index("ix_items_changed", "changed"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("event_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("request_id", Text),
    Column("position", Integer),
    Column("dwell_seconds", Float),
    Column("scroll_depth", Float),
    Column("value", Float),
    Column("propensity", Float),
    Column("variant", Text),
    Column("device", Text),
    Index("ix_events_user", "user_id", "at"),
    Index("ix_events_at", "at"),
)

SLATES = Table(
    "slates",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("placement", Text, nullable=False),
    Column("model", Text),
    Column("version", BigInteger),
    Column("variant", Text),
    Column("fallback", Text),
    Column("language", Text),
    Column("device", Text),
    # A JSON list of [item_id, score, position, propensity, reason], and of interleaved slates the team, whose
    # propensities say nothing. The propensity is the probability with which the
    # item was shown at that place: 1.0 where nothing was left to chance, from which what another policy would have
    # earned cannot be estimated.
    Column("items", Text, nullable=False),
    Column("latency_ms", Float),  # from the request to the answer
    Index("ix_slates_user", "user_id"),
    Index("ix_slates_at", "at"),
)

EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("declaration", Text, nullable=False),  # JSON, of `serving.experiments.declaration`
    Column("state", Text, nullable=False),  # running or stopped
    Column("started_at", BigInteger, nullable=False),
    Column("stopped_at", BigInteger),
    Column("verdict", Text),  # of the look that stopped it
    Column("why", Text),
)

# What an experiment's evidence was when somebody looked. Of users there are only counts and means in it.
LOOKS = Table(
    "looks",
    METADATA,
    Column("experiment", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("evidence", Text, nullable=False),  # JSON
)

# What a window of traffic was like: numbers of groups, of which no user can be told.
MEASURES = Table(
    "measures",
    METADATA,
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("seconds", Integer, primary_key=True, autoincrement=False),  # the window's length
    Column("variant", Text, primary_key=True),  # "" for all
    Column("slice", Text, primary_key=True),  # such as language=en; "" for all
    Column("metric", Text, primary_key=True),
    Column("value", Float(53), nullable=False),
    Column("low", Float(53)),
    Column("high", Float(53)),
    Column("count", BigInteger, nullable=False),
    Column("note", Text),  # the reason, of a drift
)

ALERTS = Table(
    "alerts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("rule", Text, nullable=False),
    Column("state", Text, nullable=False),  # raised or cleared
    Column("action", Text, nullable=False),  # alert or retrain
    Column("reason", Text, nullable=False),
    Index("ix_alerts_at", "at"),
)

# What monitors remember: how far each rule is, and the windows that others are compared with.
MONITORS = Table(
    "monitors",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("content", Text, nullable=False),  # JSON
)

KEYS = Table(
    "keys",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),  # SHA-256, hexadecimal
    Column("scopes", Text, nullable=False),  # separated by blanks
    Column("rate", Float),  # requests a second; null for the server's own limit
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

# Counts changes: of items, of keys, of erasures, of experiments. Its rows are locked while they count, so that what a
# larger number stands for is committed later, and a reader that has seen a number has seen all before it.
COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
