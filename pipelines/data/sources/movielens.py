"""MovieLens 100K: u.data, u.item and u.user as distributed, and plots from a JSON Lines file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir

from pipelines.data import clean
from pipelines.data.clean import PART
from pipelines.data.delimited import MENDED, ROW, Record, lines, open_text, read_plain, to_parquet
from pipelines.data.importing import Import, new_import
from pipelines.data.report import ImportReport
from pipelines.errors import BadInput

RATINGS = "u.data"
MOVIES = "u.item"
PEOPLE = "u.user"
LICENCE = "GroupLens: research use, no redistribution, no commercial use without permission"

# In the order of the flags at the end of a line of u.item.
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_KNOWN = GENRES[1:]  # "unknown" says that there is none
_RATINGS_COLUMNS = ("user_id", "item_id", "value", "time")
_MOVIES_COLUMNS = ("item_id", "title", "released", "video_released", "url", *GENRES)
_PEOPLE_COLUMNS = ("user_id", "age", "gender", "segment", "zip_code")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def import_movielens(
    source: Path | str,
    destination: Path | str,
    *,
    plots: Path | str | None = None,
    name: str | None = None,
    now: datetime | None = None,
) -> ImportReport:
    """Import a folder with u.data and, where they are there, u.item and u.user.

    Every rating becomes a `rating` event. Many users have several ratings in the same second: events of one time are
    ordered by item number, ascending, so a user's last event is the highest item number of their last second.
    A movie's first genre is its category, all its genres are its tags, and its release date is published_at.
    A user's occupation is their segment; age, gender and zip_code are free columns of users.

    Args:
        source: The folder.
        destination: The dataset folder to make, or to replace if it is a dataset.
        plots: JSON Lines with movie_id and plot, which becomes the body. Its other fields are not imported.
        name: Of the dataset; the destination's by default.
        now: Later ratings are dropped. The wall clock by default.

    Raises:
        BadInput: u.data or `plots` is missing, a file is unusable, or the destination cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from pipelines import Dataset, import_movielens
        >>> Path("ml").mkdir()
        >>> _ = Path("ml/u.data").write_text("196\\t242\\t3\\t881250949\\n186\\t302\\t3\\t891717742\\n")
        >>> report = import_movielens("ml", "of-ml")
        >>> Dataset.open("of-ml").info.events
        2
    """
    source, destination = Path(source), Path(destination)
    if not source.is_dir():
        raise BadInput(f"{source} is not a folder: give the folder that holds {RATINGS}.")
    with new_import(destination) as job:
        events = _events(job, source, now)
        items = _items(job, source, events, None if plots is None else Path(plots))
        clean.note_unknown(job.engine, events, items, job.report, f"item has no row in {MOVIES}")
        job.finish(
            items=items,
            events=events,
            users=_users(job, source),
            name=name or destination.resolve().name,
            source="MovieLens 100K",
            licence=LICENCE,
        )
    return job.report


def _read(job: Import, path: Path, columns: tuple[str, ...], delimiter: str, encoding: str = "utf-8") -> ir.Table:
    raw = job.engine.new_file()
    read_plain(path, columns, raw, job.report.table(path.name), delimiter=delimiter, encoding=encoding)
    return job.engine.read(raw).mutate(**{PART: ibis.literal(path.name)})


def _events(job: Import, source: Path, now: datetime | None) -> ir.Table:
    ratings = _read(job, source / RATINGS, _RATINGS_COLUMNS, "\t")
    # The order in which events of one time are written: by item number, ids that are no number last.
    order = [ratings.item_id.try_cast("int64").asc(nulls_first=False), ratings[ROW]]
    raw = ratings.mutate(
        **{ROW: ibis.row_number().over(order_by=order)},
        event_id="row/" + ratings[ROW].cast("string"),
        kind=ibis.literal("rating"),
        at=clean.moment(ratings.time),
    )
    no_value = {"rating is not a number": ~(raw.value.try_cast("float64").abs() < 1e30).fill_null(False)}
    same = ("user_id", "item_id", "at", "value")
    return clean.events(job.engine, raw, job.report, now, same_event=same, has_own_ids=False, drops=no_value)


def _items(job: Import, source: Path, events: ir.Table, plots: Path | None) -> ir.Table:
    if (source / MOVIES).exists():
        movies = _read(job, source / MOVIES, _MOVIES_COLUMNS, "|", "latin-1")
        genres = ibis.array([ibis.ifelse(movies[genre] == "1", genre, ibis.null("string")) for genre in _KNOWN])
        movies = movies.mutate(tags=genres.filter(lambda genre: genre.notnull()), published_at=_day(movies.released))
        movies = movies.mutate(category=ibis.ifelse(movies.tags.length() > 0, movies.tags[0], ibis.null("string")))
        notes = {"no release date": movies.published_at.isnull()}
    else:
        movies = events.group_by("item_id").agg(**{ROW: events[ROW].min()})
        movies = movies.mutate(title=ibis.null("string"), **{PART: ibis.literal(MOVIES)})
        notes = {f"{MOVIES} is missing: only the item number is known": ibis.literal(True)}
    movies = movies.mutate(language=ibis.literal("en"))
    if plots is None:
        return clean.items(job.engine, movies.mutate(body=ibis.null("string")), job.report, notes=notes)
    known = _plots(job, plots)
    movies = job.engine.materialise(
        movies.left_join(known.select("item_id", body="plot"), "item_id").drop("item_id_right")
    )
    if "published_at" in movies.columns:
        notes = {"no release date": movies.published_at.isnull()}
    return clean.items(job.engine, movies, job.report, notes=notes | {"no plot": movies.body.isnull()})


def _day(value: ir.StringValue) -> ir.TimestampValue:
    """`01-Jan-1995` as a time; null if it is not one."""
    pattern = r"^\s*(\d{1,2})-([A-Z][a-z]{2})-(\d{4})\s*$"
    day, month, year = (value.re_extract(pattern, index) for index in range(1, 4))
    place = ibis.literal(_MONTHS).find(month)
    number = ibis.ifelse((month != "") & (place % 3 == 0), place // 3 + 1, ibis.null("int64"))
    iso = year + "-" + number.cast("string").lpad(2, "0") + "-" + day.lpad(2, "0")
    return iso.try_cast("timestamp('UTC', 6)")


def _plots(job: Import, path: Path) -> ir.Table:
    """Plots by item number."""
    raw = job.engine.new_file()
    with closing(open_text(path)) as file:
        to_parquet(_plot_records(lines(file)), ("item_id", "plot"), raw, job.report.table(path.name))
    table = job.engine.read(raw).mutate(**{PART: ibis.literal(path.name)})
    columns = {column: table[column] for column in (ROW, PART, "item_id", "plot")}
    drops = clean.id_faults(table, "item_id") | {"no plot": table.plot.strip() == ""}
    repeats = {clean.SAME_ID.format("movie_id"): ("item_id",)}
    notes = {"bytes that are not UTF-8, replaced": table[MENDED]}
    return clean.sift(job.engine, table, columns, drops, repeats, notes, job.report)


def _plot_records(source: Iterator[tuple[str, bool]]) -> Iterator[Record]:
    for text, mended in source:
        try:
            movie = json.loads(text)
            plot = movie["plot"]
            fields = [str(movie["movie_id"]), plot if isinstance(plot, str) else ""]
            for field in fields:
                field.encode()  # JSON can spell half a character, which is no text
        except (ValueError, TypeError, KeyError, RecursionError):
            yield Record(None, reason="not a JSON object with movie_id and plot")
        else:
            yield Record(fields, mended)


def _users(job: Import, source: Path) -> ir.Table | None:
    if not (source / PEOPLE).exists():
        job.report.table(PEOPLE).note(f"{PEOPLE} is missing: there is no users.parquet")
        return None
    people = _read(job, source / PEOPLE, _PEOPLE_COLUMNS, "|", "latin-1").drop(MENDED)
    return clean.users(job.engine, people.mutate(age=people.age.try_cast("int64")), job.report)
