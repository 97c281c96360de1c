"""What belongs together: events and items, users, requests, languages."""

from __future__ import annotations

from typing import Any

from ibis import _

from pipelines.data.audit.findings import Checks, percent, share
from pipelines.data.audit.tables import Tables


def audit_references(tables: Tables, checks: Checks) -> dict[str, Any]:
    """Count events of unknown items and users, unused items, and requests that do not hold together."""
    engine = tables.engine
    row = engine.fetch(
        tables.facts.agg(
            events=_.count(),
            unknown=(~_.known).cast("int64").sum(),
            spoken=(_.positive & _.language.notnull() & _.user_language.notnull()).cast("int64").sum(),
            foreign=(_.positive & (_.language != _.user_language)).fill_null(False).cast("int64").sum(),
        )
    )[0]
    unknown = share(row["unknown"], row["events"])
    checks.add("unknown_items", unknown, f"{percent(unknown)} of the events have an item that is not in the catalogue")
    if tables.users is not None:
        listed = engine.fetch(tables.user_facts.agg(events=_.events.sum(), unlisted=_.events.sum(where=~_.listed)))[0]
        part = share(listed["unlisted"], listed["events"])
        checks.add("unknown_users", part, f"{percent(part)} of the events have a user that is not in the users")
    else:
        checks.skip("the dataset has no table of users", "unknown_users")
    catalogue = tables.item_facts.filter(_.known)
    items = engine.fetch(catalogue.agg(items=_.count(), unused=(_.events == 0).cast("int64").sum()))[0]
    unused = share(items["unused"], items["items"])
    checks.add("unused_items", unused, f"{percent(unused)} of the catalogue's items have no event")
    foreign = share(row["foreign"], row["spoken"])
    if foreign is None:
        checks.skip("the languages of users and items are not both known", "language_mismatch")
    else:
        text = f"{percent(foreign)} of the positives are in another language than the user's"
        checks.add("language_mismatch", foreign, text)
    return {"events": row, "catalogue": items, "requests": _requests(tables, checks)}


def _requests(tables: Tables, checks: Checks) -> dict[str, Any]:
    engine, showings = tables.engine, tables.showings
    slates = showings.group_by("request").agg(users=_.user.nunique(), shown=_.shown.sum(), wanted=_.wanted.any())
    row = engine.fetch(
        slates.agg(
            requests=_.count(),
            shared=(_.users > 1).cast("int64").sum(),
            with_impressions=(_.shown > 0).cast("int64").sum(),
            with_positives=(_.wanted & (_.shown > 0)).cast("int64").sum(),
        )
    )[0]
    if not row["with_impressions"]:
        why = "no request has impressions"
        checks.skip(why, "shared_requests", "click_without_impression", "click_before_impression")
        return {name: value or 0 for name, value in row.items()}
    part = share(row["shared"], row["requests"])
    checks.add("shared_requests", part, f"{percent(part)} of the requests are of several users", "request_id")
    wanted = engine.fetch(
        showings.filter(_.wanted).agg(
            positives=_.count(),
            unshown=(_.shown == 0).cast("int64").sum(),
            early=(_.wanted_at < _.shown_at).fill_null(False).cast("int64").sum(),
        )
    )[0]
    unshown = share(wanted["unshown"], wanted["positives"])
    text = f"{percent(unshown)} of the positives with a request have no impression in it"
    checks.add("click_without_impression", unshown, text)
    early = share(wanted["early"], wanted["positives"])
    if tables.has_times:
        text = f"{percent(early)} of the positives with a request are earlier than their impression"
        checks.add("click_before_impression", early, text)
    return row | wanted
