"""Experiments, what was seen at each look, and how long a slate took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    op.add_column("slates", sa.Column("latency_ms", sa.Float))
    op.create_index("ix_slates_at", "slates", ["at"])
    op.create_table(
        "experiments",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("declaration", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("stopped_at", sa.BigInteger),
        sa.Column("verdict", sa.Text),
        sa.Column("why", sa.Text),
    )
    op.create_table(
        "looks",
        sa.Column("experiment", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("evidence", sa.Text, nullable=False),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('experiments', 0)")


def downgrade() -> None:
    op.drop_table("looks")
    op.drop_table("experiments")
    op.execute("DELETE FROM counters WHERE name = 'experiments'")
    op.drop_index("ix_slates_at", "slates")
    op.drop_column("slates", "latency_ms")
