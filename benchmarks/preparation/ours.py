"""Belfry's way: `load_behaviour`, then every positive's history cut by `HistoryWindow` as training cuts it.

Beside the items, what it cuts has their ages, dwell and scroll depth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.preparation.parts import HISTORY, save
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.histories import Behaviour, load_behaviour
from pipelines.data.window import HistoryWindow

_BATCH = 4096


def main(folder: Path, users: list[str], out: Path) -> None:
    dataset = Dataset.open(folder)
    catalogue = Catalogue.load(dataset)
    behaviour = load_behaviour(dataset, catalogue.ids)
    log = behaviour.interactions
    window = HistoryWindow(log, HISTORY, has_times=True, user_language=np.zeros(0, np.int32))
    in_histories = 0
    for start in range(0, len(log), _BATCH):
        rows = slice(start, start + _BATCH)
        history = window.batch(log.user[rows], log.history_end[rows], log.at[rows])["history"]
        in_histories += int(np.count_nonzero(history))
    # No np.isin: it would sort half a million strings, which is not what is measured.
    sampled = set(users)
    wanted = np.array([row for row, user in enumerate(log.user_ids) if user in sampled])
    clicked = wanted[np.diff(log.user_offsets)[wanted] > 0]
    save(
        out,
        positives=len(log),
        in_histories=in_histories,
        slates=len(behaviour.requests),
        histories={log.user_ids[user]: _histories(window, catalogue.ids, user) for user in clicked},
        shown=_shown(behaviour, wanted),
    )


def _histories(window: HistoryWindow, item_ids: np.ndarray, user: int) -> list[tuple[str, list[str]]]:
    log = window.interactions
    rows = slice(*log.user_offsets[[user, user + 1]])
    history = window.batch(log.user[rows], log.history_end[rows], log.at[rows])["history"]
    seen = [item_ids[each[each > 0] - 1].tolist() for each in history]
    return list(zip(item_ids[log.item[rows] - 1].tolist(), seen, strict=True))


def _shown(behaviour: Behaviour, users: np.ndarray) -> dict[str, tuple[list[str], list[bool]]]:
    requests, user_ids = behaviour.requests, behaviour.interactions.user_ids
    found = {}
    for request in np.flatnonzero(np.isin(requests.user, users)):
        slate = slice(*requests.offsets[[request, request + 1]])
        name = f"{user_ids[requests.user[request]]} {requests.ids[request]}"
        found[name] = (requests.item_ids[slate].tolist(), requests.clicked[slate].tolist())
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").split("\n"), Path(sys.argv[3]))
