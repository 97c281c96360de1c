"""The database: SQLite in a folder, or PostgreSQL by URL; its tables are brought up to date when it is opened."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import ConnectionPoolEntry

from serving.events.errors import BadStore, StoreAway
from serving.events.tables import COUNTERS

_log = logging.getLogger(__name__)
FILE = "store.db"
_BUSY_SECONDS = 10.0  # how long SQLite waits for another writer
# A transaction for one statement would cost more than the statement.
_READING: dict[str, Any] = {"belfry_reading": True}
_AUTOCOMMIT: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
_MIGRATING = 0x62656C66727900  # PostgreSQL's advisory lock while tables change
_AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError, exc.ResourceClosedError)


class Store:
    """An open database.

    SQLite is in WAL mode and synchronises at every commit, so that what is committed survives a power cut. What is
    deleted is overwritten with zeros. Methods may be called from several threads; they block.

    Args:
        where: A folder (made if it is not there), or a URL such as `postgresql://user:password@host/name`.
        create: False to refuse a folder that is no store.

    Raises:
        BadStore: It is no store, or a newer Belfry's.
        StoreAway: It cannot be reached.

    Example:
        >>> from serving import Store
        >>> with Store("store") as store:
        ...     store.counters()["items"] > 0
        True
    """

    def __init__(self, where: Path | str, *, create: bool = True) -> None:
        self.engine = _engine(where, create)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._readers = self.engine.execution_options(**(_READING if self.is_sqlite else _AUTOCOMMIT))
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with; each statement sees the moment in which it runs.

        Raises:
            StoreAway: The database cannot be reached.
        """
        with _told(), self._readers.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is durable at the block's end, or did not happen.

        Raises:
            StoreAway: The database cannot be reached or written.
        """
        with _told(), self.engine.begin() as connection:
            yield connection

    def count(self, connection: sa.Connection, name: str) -> int:
        """Count a change within its transaction, and return its number; others wait until that has ended."""
        counting = COUNTERS.update().where(COUNTERS.c.name == name).values(value=COUNTERS.c.value + 1)
        return int(connection.execute(counting.returning(COUNTERS.c.value)).scalar_one())

    def take_turns(self, connection: sa.Connection, table: sa.Table) -> None:
        """Let nobody else write a table until this transaction has ended: what is replaced is not replaced twice.
        SQLite's writers take turns as it is."""
        if not self.is_sqlite:
            connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))

    def counters(self) -> dict[str, int]:
        """How often what has changed."""
        with self.reading() as connection:
            return {row.name: row.value for row in connection.execute(sa.select(COUNTERS))}

    def forget_old_pages(self) -> bool:
        """Empty SQLite's log, which still holds what was deleted. PostgreSQL sees to that by itself.

        Returns:
            False where somebody still reads it: to be done again.

        Raises:
            StoreAway: The database cannot be reached.
        """
        if not self.is_sqlite:
            return True
        with self.reading() as connection:
            # It holds back every writer while it waits for a reader: it must not wait at all.
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            try:
                busy, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={round(_BUSY_SECONDS * 1000)}")
        return not busy

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        # One transaction, in which others wait: replicas that start together do not build the same tables.
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise BadStore(f"The store's tables are not known: it is a newer Belfry's ({error}).") from None


def _engine(where: Path | str, create: bool) -> sa.Engine:
    text = str(where)
    if "://" in text:
        try:
            url = sa.make_url(text)
        except (exc.ArgumentError, ValueError):
            raise BadStore("The store's URL cannot be read: postgresql://user:password@host:port/name.") from None
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "postgresql+psycopg":
            timeouts = {"connect_timeout": "3", "tcp_user_timeout": "5000", "keepalives_idle": "10"}
            url = url.update_query_dict({name: value for name, value in timeouts.items() if name not in url.query})
            return sa.create_engine(
                url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=3, hide_parameters=True
            )
        raise BadStore(f"A store is a folder or a postgresql:// URL, not {url.drivername}://.")
    path = Path(text)
    if not create and not (path / FILE).is_file():
        raise BadStore(f"{path} is not a store (it has no {FILE}).")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadStore(f"{path} cannot be made a store: {error.strerror}.") from None
    url = sa.URL.create("sqlite", database=str(path / FILE))
    arguments = {"timeout": _BUSY_SECONDS}
    # Errors are logged, and what is written holds users' ids.
    engine = sa.create_engine(url, connect_args=arguments, pool_size=8, max_overflow=8, hide_parameters=True)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "cache_size=-16384"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer waits for its turn at its beginning: one that has read already would be refused instead.
    if not connection.get_execution_options().get("belfry_reading"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except _AWAY as error:
        # Neither the statement nor its values: they hold users' ids.
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip().split("\n")[0]
        raise StoreAway(f"The store cannot be used at the moment ({reason}).") from error
