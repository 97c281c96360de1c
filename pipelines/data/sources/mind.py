"""MIND, the Microsoft News Dataset, in its official layout: news.tsv and behaviors.tsv."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir

from pipelines.data import clean
from pipelines.data.clean import PART
from pipelines.data.delimited import MENDED, ROW, read_plain
from pipelines.data.importing import Import, new_import
from pipelines.data.report import ImportReport
from pipelines.errors import BadInput

NEWS = "news.tsv"
BEHAVIORS = "behaviors.tsv"
LICENCE = "Microsoft Research Licence Terms: non-commercial research only, no redistribution"

_NEWS_COLUMNS = ("item_id", "category", "subcategory", "title", "body", "url", "title_entities", "abstract_entities")
_BEHAVIORS_COLUMNS = ("impression_id", "user_id", "time", "history", "impressions")
_MENDED = "bytes that are not UTF-8, replaced"
_BROKEN_ENTITIES = "entities are not valid JSON; left out"
_NO_LABEL = "no label -0 or -1: an impression without a click"
# Orders events within a line of behaviors.tsv: line * _LINE + place.
_LINE = 2**31


def import_mind(
    source: Path | str, destination: Path | str, *, name: str | None = None, now: datetime | None = None
) -> ImportReport:
    """Import a folder with news.tsv and behaviors.tsv.

    Every candidate becomes an `impression` event whose request_id is the impression id as the source wrote it and
    whose position is its place in the list. A clicked candidate becomes a `click` event as well, with the same
    request_id, position and time. Candidates without a label, as in the hidden test, are impressions without clicks.

    The source gives each user a list of earlier clicks without times. It becomes `click` events without a request_id,
    one minute apart and in order, of which the last is one minute before the first impression of the file: their
    order is the source's, their times are made up. Where a user's rows differ, the longest list counts.

    Events whose item has no row in news.tsv are kept. Urls are not imported.

    Args:
        source: The folder.
        destination: The dataset folder to make, or to replace if it is a dataset.
        name: Of the dataset; the destination's by default.
        now: Later impressions are dropped. The wall clock by default.

    Raises:
        BadInput: A file is missing or unusable, or the destination cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from pipelines import Dataset, import_mind
        >>> Path("mind").mkdir()
        >>> news = ["N1", "news", "weather", "Storm closes the harbour", "", "", "[]", "[]"]
        >>> _ = Path("mind/news.tsv").write_text("\\t".join(news) + "\\n")
        >>> line = ["1", "U1", "11/11/2019 9:05:58 AM", "", "N1-1"]
        >>> _ = Path("mind/behaviors.tsv").write_text("\\t".join(line) + "\\n")
        >>> report = import_mind("mind", "of-mind")
        >>> Dataset.open("of-mind").info.events  # the impression and the click
        2
    """
    source, destination = Path(source), Path(destination)
    if not source.is_dir():
        raise BadInput(f"{source} is not a folder: give the folder that holds {NEWS} and {BEHAVIORS}.")
    with new_import(destination) as job:
        news = _read(job, source, NEWS, _NEWS_COLUMNS)
        items = clean.items(job.engine, _items(news), job.report, notes=_news_notes(news))
        lines = _lines(job, _read(job, source, BEHAVIORS, _BEHAVIORS_COLUMNS))
        shown = job.engine.materialise(_candidates(lines))
        raw = ibis.union(_impressions(shown), _clicks(shown), _history(job, lines))
        events = clean.events(job.engine, raw, job.report, now, notes={_NO_LABEL: raw.unlabelled})
        clean.note_unknown(job.engine, events, items, job.report, f"item has no row in {NEWS}")
        _note_history(job, lines)
        job.finish(items=items, events=events, name=name or destination.resolve().name, source="MIND", licence=LICENCE)
    return job.report


def _read(job: Import, source: Path, file: str, columns: tuple[str, ...]) -> ir.Table:
    path = job.engine.new_file()
    read_plain(source / file, columns, path, job.report.table(file), delimiter="\t")
    return job.engine.read(path).mutate(**{PART: ibis.literal(file)})


def _labels(entities: str) -> list[str] | None:
    """The labels of a JSON list of entities; None if it is broken."""
    try:
        found = json.loads(entities) if entities.strip() else []
        labels = [entity["Label"] for entity in found if isinstance(entity["Label"], str) and entity["Label"].strip()]
        "".join(labels).encode()  # JSON can spell half a character, which is no text
        return labels
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


@ibis.udf.scalar.python
def _is_broken(title_entities: str, abstract_entities: str) -> bool:
    return _labels(title_entities) is None or _labels(abstract_entities) is None


@ibis.udf.scalar.python
def _tags(subcategory: str, title_entities: str, abstract_entities: str) -> list[str]:
    labels = [*(_labels(title_entities) or []), *(_labels(abstract_entities) or [])]
    return list(dict.fromkeys([subcategory, *labels] if subcategory.strip() else labels))


def _items(news: ir.Table) -> ir.Table:
    return news.mutate(
        language=ibis.literal("en"), tags=_tags(news.subcategory, news.title_entities, news.abstract_entities)
    )


def _news_notes(news: ir.Table) -> clean.Notes:
    return {_MENDED: news[MENDED], _BROKEN_ENTITIES: _is_broken(news.title_entities, news.abstract_entities)}


def _time(value: ir.StringValue) -> ir.TimestampValue:
    """`11/12/2019 2:14:46 PM` as a time. Built from its parts, since no engine's format string refuses quietly."""
    pattern = r"^\s*(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AP])M\s*$"
    month, day, year, hour, minute, second, half = (value.re_extract(pattern, index) for index in range(1, 8))
    number = hour.try_cast("int64")
    of_day = ibis.ifelse(number.between(1, 12), number % 12 + ibis.ifelse(half == "P", 12, 0), ibis.null("int64"))
    iso = year + "-" + month.lpad(2, "0") + "-" + day.lpad(2, "0") + " " + of_day.cast("string").lpad(2, "0")
    return (iso + ":" + minute + ":" + second).try_cast("timestamp('UTC', 6)")


def _lines(job: Import, behaviors: ir.Table) -> ir.Table:
    """The usable lines of behaviors.tsv."""
    at = _time(behaviors.time)
    drops = clean.id_faults(behaviors, "impression_id") | clean.id_faults(behaviors, "user_id")
    drops["time is not like 11/12/2019 2:14:46 PM"] = at.isnull()
    repeats = {
        clean.SAME_ROW: ("impression_id", "user_id", "at", "history", "impressions"),
        # Merging the two would make one slate of what were two.
        "impression_id of an earlier row with other content": ("impression_id",),
    }
    columns = {name: behaviors[name] for name in (ROW, PART, "impression_id", "user_id", "history", "impressions")}
    columns["at"] = at
    notes = {_MENDED: behaviors[MENDED], "no candidates": behaviors.impressions.strip() == ""}
    return clean.sift(job.engine, behaviors, columns, drops, repeats, notes, job.report)


def _words(value: ir.StringValue) -> ir.ArrayValue:
    return value.re_replace(r"\s+", " ").strip().split(" ")


def _candidates(lines: ir.Table) -> ir.Table:
    shown = lines.filter(lines.impressions.strip() != "").mutate(word=_words(lines.impressions))
    shown = shown.drop("impressions", "history").unnest("word", offset="position")
    pattern = r"^(.*)-([01])$"
    has_label = shown.word.re_search(pattern)
    return shown.mutate(
        item_id=ibis.ifelse(has_label, shown.word.re_extract(pattern, 1), shown.word),
        clicked=has_label & shown.word.endswith("-1"),
        unlabelled=~has_label,
    )


def _impressions(shown: ir.Table) -> ir.Table:
    return shown.select(
        **{PART: ibis.literal("candidates"), ROW: shown[ROW] * _LINE + shown.position * 2},
        event_id=shown.impression_id + "/" + shown.position.cast("string"),
        user_id=shown.user_id,
        item_id=shown.item_id,
        kind=ibis.literal("impression"),
        at=shown["at"],
        request_id=shown.impression_id,
        position=shown.position.cast("int64"),
        unlabelled=shown.unlabelled,
    )


def _clicks(shown: ir.Table) -> ir.Table:
    clicked = _impressions(shown.filter(shown.clicked))
    return clicked.mutate(
        **{PART: ibis.literal("clicks"), ROW: clicked[ROW] + 1},
        event_id=clicked.event_id + "/click",
        kind=ibis.literal("click"),
    )


def _history(job: Import, lines: ir.Table) -> ir.Table:
    """Clicks before the file begins, from each user's longest list; the earliest row decides between equals."""
    lists = lines.filter(lines.history.strip() != "").select(ROW, "user_id", words=_words(lines.history))
    lists = lists.mutate(length=lists.words.length().cast("int64"))
    order = [ibis.desc("length"), ibis.asc(ROW)]
    longest = lists.mutate(place=ibis.row_number().over(group_by="user_id", order_by=order))
    first_at = lines.agg(first_at=lines["at"].min())
    longest = longest.filter(longest.place == 0).cross_join(first_at)
    earlier = job.engine.materialise(longest.unnest("words", offset="index"))
    minutes = (earlier.length - earlier["index"]).cast("int64")
    return earlier.select(
        **{PART: ibis.literal("history"), ROW: earlier[ROW] * _LINE + earlier["index"].cast("int64")},
        event_id=earlier.user_id + "/history/" + earlier["index"].cast("string"),
        user_id=earlier.user_id,
        item_id=earlier.words,
        kind=ibis.literal("click"),
        at=earlier.first_at - minutes.as_interval("m"),
        request_id=ibis.null("string"),
        position=ibis.null("int64"),
        unlabelled=ibis.literal(False),
    )


def _note_history(job: Import, lines: ir.Table) -> None:
    """Say what was decided about the users' lists."""
    count = job.report.table("history")
    count.note("no time in the source: dated one minute apart, in order, before the first impression", count.kept)
    lists = lines.group_by("user_id").agg(lists=lines.history.nunique())
    (differing,) = job.engine.fetch(lists.filter(lists.lists > 1).agg(users=ibis._.count()))
    job.report.table(BEHAVIORS).note(
        "users whose history differs between rows: the longest is used", differing["users"]
    )
