"""`belfry keys ...`: who may ask the gateway what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pipelines.cli.events import StoreOption
from pipelines.cli.options import Json, show
from pipelines.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Keys of the gateway's API.")


@app.command()
def create(
    store: StoreOption,
    name: Annotated[str, typer.Option("--name", help="Whose it is, for the list.")],
    scope: Annotated[
        list[str],
        typer.Option("--scope", help="recommend, events, items, users, experiments, models or metrics; repeat it."),
    ],
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests a second; by default the server's own limit.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it: it cannot be read again."""
    from serving.events import Store, StoreError
    from serving.events.keys import create_key

    try:
        with Store(store) as opened:
            key_id, key = create_key(opened, name, scope, rate)
    except StoreError as error:
        raise BadInput(str(error)) from None
    lines = [f"key {key_id} of {name}, for {', '.join(sorted(set(scope)))}; it is shown this once:", key]
    show({"key_id": key_id, "key": key, "scopes": sorted(set(scope))}, lines, as_json=as_json)


@app.command("list")
def list_all(store: StoreOption, as_json: Json = False) -> None:
    """The keys, and what each is for; not the keys themselves."""
    from serving.events import Store, StoreError
    from serving.events.keys import list_keys

    try:
        with Store(store, create=False) as opened:
            keys = list_keys(opened)
    except StoreError as error:
        raise BadInput(str(error)) from None
    found: list[dict[str, Any]] = [
        {
            "key_id": key.key_id,
            "name": key.name,
            "scopes": sorted(key.scopes),
            "rate": key.rate,
            "created_at": _time(key.created_at),
            "revoked_at": _time(key.revoked_at),
        }
        for key in keys
    ]
    lines = [
        f"{each['key_id']}  {each['name']}  {' '.join(each['scopes'])}  created {each['created_at']}"
        + (f"  revoked {each['revoked_at']}" if each["revoked_at"] else "")
        for each in found
    ]
    show(found, lines or ["no keys"], as_json=as_json)


@app.command()
def revoke(store: StoreOption, key_id: Annotated[str, typer.Argument(metavar="KEY_ID")], as_json: Json = False) -> None:
    """Let a key no longer count; running gateways know within a second or two."""
    from serving.events import Store, StoreError
    from serving.events.keys import revoke_key

    try:
        with Store(store, create=False) as opened:
            found = revoke_key(opened, key_id)
    except StoreError as error:
        raise BadInput(str(error)) from None
    if not found:
        raise BadInput(f"There is no key {key_id} that counts: `belfry keys list` shows them.")
    show({"key_id": key_id, "revoked": True}, [f"key {key_id} is revoked"], as_json=as_json)


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else datetime.fromtimestamp(microseconds // 10**6, UTC).isoformat()
