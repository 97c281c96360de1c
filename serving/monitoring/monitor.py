"""Observe a window: measure it, compare it with what the model knows, and store what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa

from serving.client import ClientError
from serving.events import Store
from serving.events.tables import SLATES
from serving.monitoring.drift import Finding, find_drift
from serving.monitoring.features import OF_THE_AGENDA, Feature, Samples
from serving.monitoring.fingerprint import BadFingerprint, Fingerprint
from serving.monitoring.measures import NEW_HOURS, K, Measure, measure
from serving.monitoring.memory import keep_window, live_reference, window_before
from serving.monitoring.records import MOST_DUE, last_window, read_measures, usual_sizes, write_measures
from serving.monitoring.samples import HISTORY, MOST_USERS, Sampled, sample
from serving.monitoring.window import LAG_SECONDS, SECOND, Window, count_positives, read_window

_HOUR = 3_600 * SECOND
_USUAL, _FEWEST_USUAL = 7, 3  # windows before that say what clicks are usual

Embed = Callable[[Samples, int], np.ndarray]
FindFingerprint = Callable[[str, int], Fingerprint | None]


@dataclass(frozen=True)
class Observation:
    """What was seen of a window; times are microseconds since 1970.

    Args:
        start, end: Of the window.
        measures: All numbers, of drift too.
        findings: Every feature that could be compared, by reference (`training`, `live`, `before`).
        skipped: Sentences on what could not be, and why.
        version: That made most answers; None where no model made any.

    Example:
        >>> from serving import Observation
        >>> seen = Observation(0, 3_600_000_000, measures=[], findings={}, skipped=[], version=None)
        >>> seen.drifted, seen.value("ctr")
        ([], None)
    """

    start: int
    end: int
    measures: list[Measure]
    findings: dict[str, list[Finding]]
    skipped: list[str]
    version: int | None

    @property
    def drifted(self) -> list[Finding]:
        return [each for found in self.findings.values() for each in found if each.drifted]

    def value(self, metric: str, variant: str = "", slice: str = "") -> float | None:
        """A measure's value."""
        wanted = (variant, slice, metric)
        return next((each.value for each in self.measures if each.key == wanted), None)


def observe(
    store: Store,
    start: int,
    end: int,
    *,
    fingerprint: Fingerprint | FindFingerprint | None = None,
    trained_until: int | None = None,
    model: str | None = None,
    embed: Embed | None = None,
    lag_seconds: float = LAG_SECONDS,
    k: int = K,
    new_hours: float = NEW_HOURS,
    history: int | None = None,
    most_users: int = MOST_USERS,
    positive_rating: float | None = None,
) -> Observation:
    """Measure the window from `start` up to `end`, and store what was found in place of what is stored of it.

    There are three references. `training` is the fingerprint of the model's version: what the model has learnt no
    longer holds. `live` is the first full window of this length in which that version answered: what depends on who
    chose the items is compared with it, and with training only where a gateway made that data too. `before` is the
    window before this one: something broke, or began, at once. Windows are kept for that as fingerprints.

    Args:
        store: An open store.
        k: Places of precision@k.
        new_hours: For which an item counts as new.
        positive_rating: Ratings below it are not wanted.
        start, end: Microseconds since 1970. The window, and `lag_seconds` after it, must be over: nothing here knows
            what time it is.
        fingerprint: `assets.extra/fingerprint.json` of the version that answers, or what finds it by model and version.
        trained_until: Where its training data ended, in microseconds since 1970; the fingerprint's by default.
        model: Count answers of this model for the version; any by default.
        embed: Gives users' vectors by a version, such as `vectors.Embedder`.
        history: Events of a user that the model is told; the fingerprint's by default, or else the gateway's default.
        most_users: That are compared; all are measured.

    Raises:
        StoreAway: The database cannot be reached or written; nothing was stored.

    Example:
        >>> from serving import Store, observe
        >>> with Store("store-of-a-window") as store:
        ...     seen = observe(store, 0, 3_600_000_000)  # an hour without traffic
        >>> seen.value("slates"), seen.version
        (0.0, None)
    """
    window = read_window(store, start, end, lag_seconds=lag_seconds, positive_rating=positive_rating)
    measures = measure(window, k=k, new_hours=new_hours)
    measures += _changes(store, window, measures)
    name, version = _answering(window, model)
    skipped: list[str] = []
    known = _known(fingerprint, name, version, skipped)
    if trained_until is None and known is not None:
        trained_until = known.until
    if trained_until is not None:
        measures += _age(store, window, trained_until, positive_rating)
    history = history or (known.history if known is not None else None) or HISTORY
    sampled = sample(store, window, history=history, most_users=most_users, positive_rating=positive_rating)
    vectors = _vectors(embed, sampled, version, skipped)
    hours = (end - start) / _HOUR
    current = Fingerprint.of(
        sampled.features(version), vectors, source=_span(start, end), hours=hours, model=name or None, version=version
    )
    stored = {
        "training": known,
        "live": live_reference(store, window, current, skipped),
        "before": window_before(store, window, skipped),
    }
    references = {role: reference for role, reference in stored.items() if reference is not None}
    findings: dict[str, list[Finding]] = {}
    for role, reference in references.items():
        usual = usual_sizes(store, start, seconds=(end - start) // SECOND, role=role)
        if known is not None:
            between = known.usual_next if role == "before" else known.usual
            seen = {name: size for name, size in usual.items() if name in OF_THE_AGENDA}
            usual |= {name: max(size, seen.get(name, 0.0)) for name, size in between.items()}
        findings[role], why = find_drift(reference, current, usual=usual)
        skipped += [f"Against {role}: {each}" for each in why]
    measures += _drift_measures(findings)
    write_measures(store, start, end, measures)
    keep_window(store, window, current)
    return Observation(start, end, measures, findings, skipped, version)


def due_windows(
    store: Store, now: int, *, hours: float = 24.0, lag_seconds: float = LAG_SECONDS, most: int = MOST_DUE
) -> list[tuple[int, int]]:
    """Full windows that are over and not stored yet, the oldest first: after the last stored one, or from the first
    slate on. They begin at multiples of their length since 1970, UTC.

    Args:
        store: An open store.
        lag_seconds: After a window's end, in which its clicks may still come.
        now: Microseconds since 1970.
        hours: Their length.
        most: The latest ones; what lies before them is left out.

    Raises:
        StoreAway: The database cannot be reached.

    Example:
        >>> from serving import Store, due_windows, wall_clock
        >>> with Store("store-without-traffic") as store:
        ...     due_windows(store, wall_clock(), hours=1)
        []
    """
    length = round(hours * 3_600) * SECOND
    if length <= 0:
        raise ValueError("a window has a length above 0 hours")
    last = last_window(store, length // SECOND)
    if last is not None:
        begin = -(-last.end // length) * length
    else:
        with store.reading() as connection:
            slate = connection.execute(sa.select(sa.func.min(SLATES.c.at))).scalar_one()
        if slate is None:
            return []
        # What the first slate is in is not full.
        begin = -(-slate // length) * length
    stop = (now - int(lag_seconds * SECOND)) // length * length
    starts = range(max(begin, stop - most * length), stop, length)
    return [(start, start + length) for start in starts]


def _answering(window: Window, model: str | None) -> tuple[str, int | None]:
    """The model and version that made most answers."""
    by_model = (window.labels["fallback"] == "") & (window.version >= 0)
    if model is not None:
        by_model &= window.labels["model"] == model
    if not by_model.any():
        return model or "", None
    pairs = Counter(zip(window.labels["model"][by_model], window.version[by_model].tolist(), strict=True))
    # Of as many the newest, whatever the order of the slates.
    name, version = max(pairs, key=lambda pair: (pairs[pair], pair[1], pair[0]))
    return str(name), int(version)


def _known(
    fingerprint: Fingerprint | FindFingerprint | None, name: str, version: int | None, skipped: list[str]
) -> Fingerprint | None:
    if callable(fingerprint):
        try:
            fingerprint = None if version is None else fingerprint(name, version)
        except BadFingerprint as error:
            skipped.append(f"Against training: {error}")
            return None
    if fingerprint is None:
        skipped.append("Against training: there is no fingerprint of what answered.")
    return fingerprint


def _vectors(embed: Embed | None, sampled: Sampled, version: int | None, skipped: list[str]) -> dict[str, Feature]:
    why = "no model server was named" if embed is None else "no model answered in this window"
    if embed is not None and version is not None and len(sampled.samples):
        try:
            vectors = embed(sampled.samples, version)
            if np.isfinite(vectors).all():
                return {"embedding": Feature(vectors, sampled.samples.user)}
            why = "the model gives numbers that are not finite"
        except ClientError as error:
            why = f"the model server gives none ({error})"
    skipped.append(f"Embeddings are not compared: {why}.")
    return {}


def _age(store: Store, window: Window, until: int, positive_rating: float | None) -> list[Measure]:
    age = max(0.0, (window.end - until) / _HOUR)
    new = count_positives(store, until, window.end, positive_rating) if until < window.end else 0
    return [
        Measure("", "", "model_age_hours", age, None, None, len(window)),
        Measure("", "", "new_events", float(new), None, None, new),
    ]


def _changes(store: Store, window: Window, measures: list[Measure]) -> list[Measure]:
    """`ctr_change`: clicks of all and of each variant, as a share more or less than in the windows before."""
    seconds = (window.end - window.start) // SECOND
    found = []
    for now in measures:
        if now.metric != "ctr" or now.slice:
            continue
        since = window.start - _USUAL * (window.end - window.start)
        past = read_measures(store, "ctr", seconds=seconds, since=since, variant=now.variant)
        usual = [each.value for start, each in past if start < window.start]
        if len(usual) < _FEWEST_USUAL or not any(usual):
            continue
        mean = sum(usual) / len(usual)
        low, high = (None if bound is None else bound / mean - 1 for bound in (now.low, now.high))
        found.append(Measure(now.variant, "", "ctr_change", now.value / mean - 1, low, high, now.count))
    return found


def _drift_measures(findings: dict[str, list[Finding]]) -> list[Measure]:
    found = []
    drifted: dict[str, str] = {}
    for role, each in findings.items():
        where = f"reference={role}"
        for finding in each:
            sizes = {name: (size, "") for name, size in finding.sizes.items()}
            numbers = sizes | {"p": (finding.p_value, ""), "drift": (float(finding.drifted), finding.reason)}
            for name, (value, note) in numbers.items():
                metric = f"{name}.{finding.feature}"
                found.append(Measure("", where, metric, value, None, None, finding.rows, note))
            if finding.drifted:
                drifted.setdefault(finding.feature, finding.reason)
        reasons = " ".join(finding.reason for finding in each if finding.drifted)
        count = sum(finding.drifted for finding in each)
        found.append(Measure("", where, "drifting", float(count), None, None, len(each), reasons))
    compared = len({finding.feature for each in findings.values() for finding in each})
    if compared:
        told = " ".join(drifted.values())
        found.append(Measure("", "", "drifting", float(len(drifted)), None, None, compared, told))
    return found


def _span(start: int, end: int) -> str:
    begin, stop = (datetime.fromtimestamp(each / SECOND, UTC) for each in (start, end))
    return f"the window from {begin:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M}"
