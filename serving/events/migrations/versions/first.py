"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "items",
        sa.Column("item_id", sa.Text, primary_key=True),
        sa.Column("title", sa.Text),
        sa.Column("body", sa.Text),
        sa.Column("language", sa.Text),
        sa.Column("category", sa.Text),
        sa.Column("tags", sa.Text),
        sa.Column("image", sa.LargeBinary),
        sa.Column("published_at", sa.BigInteger),
        sa.Column("removed_at", sa.BigInteger),
        sa.Column("put_at", sa.BigInteger),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_items_changed", "items", ["changed"])
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("position", sa.Integer),
        sa.Column("dwell_seconds", sa.Float),
        sa.Column("scroll_depth", sa.Float),
        sa.Column("value", sa.Float),
        sa.Column("propensity", sa.Float),
        sa.Column("variant", sa.Text),
        sa.Column("device", sa.Text),
    )
    op.create_index("ix_events_user", "events", ["user_id", "at"])
    op.create_index("ix_events_at", "events", ["at"])
    op.create_table(
        "slates",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("placement", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("version", sa.BigInteger),
        sa.Column("variant", sa.Text),
        sa.Column("fallback", sa.Text),
        sa.Column("language", sa.Text),
        sa.Column("device", sa.Text),
        sa.Column("items", sa.Text, nullable=False),
    )
    op.create_index("ix_slates_user", "slates", ["user_id"])
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("rate", sa.Float),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": name, "value": 0} for name in ("items", "keys", "erasures")])


def downgrade() -> None:
    for table in ("counters", "keys", "slates", "events", "items"):
        op.drop_table(table)
