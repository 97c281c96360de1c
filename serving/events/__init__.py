"""What is stored: the event log, slates, items and keys, in SQLite or PostgreSQL.

with Store("store") as store:
    log = EventLog(store)
    log.append([{"event_id": "e1", "user_id": "u1", "item_id": "a17", "kind": "click", "at": 1767258000_000000}])
"""

from serving.events.errors import BadStore, StoreAway, StoreBusy, StoreError
from serving.events.log import EventLog, SlateLog
from serving.events.store import Store

__all__ = ["BadStore", "EventLog", "SlateLog", "Store", "StoreAway", "StoreBusy", "StoreError"]
