"""A recommender with every part and random weights, its bundle, and what the served graph itself answers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.edge_bundle import write_bundle
from serving.edge.recommender import EdgeRecommender
from serving.edge.server import EdgeServer
from towers.appeal import ContentAppeal
from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.ranker import RankingTower
from towers.recommender import Recommender
from towers.runtime import seed_everything, tf
from towers.served_ranker import ServedRanker
from towers.text import TextEncoder

COUNT, HISTORY, WIDTH, TAGS = 60, 6, 16, 2
ITEMS = sorted([*(f"i{number:02}" for number in range(COUNT - 3)), "žluťoučký 🐎", "كتاب", "a/b c?"])
NOON = 1_736_164_800


def make_served(preset: str, *, ranked: bool, seed: int) -> Recommender:
    seed_everything(seed)
    rng = np.random.default_rng(seed)
    content = ContentTower(WIDTH, categories=3, tags=4, languages=2, items=COUNT)
    content.build({"text": (None, 16)})
    behaviour = BehaviourTower(encoder="cnn", units=5, languages=2, devices=2, time_of_day=True)
    behaviour.build({"history": (None, HISTORY, WIDTH)})
    tower = RankingTower(("click", "read"), objective=(1.0, 0.5), crosses=1, projection=4)
    tower.build({"user": (None, WIDTH)})
    for each in (content, behaviour, tower):
        each.set_weights([w + rng.normal(scale=0.2, size=w.shape).astype("f4") for w in each.get_weights()])
    embeddings = rng.normal(size=(COUNT, WIDTH)).astype(np.float32)
    embeddings[7] = embeddings[6]
    category = np.r_[0, rng.integers(0, 4, COUNT)]
    tags = np.concatenate([np.zeros((1, TAGS), int), rng.integers(0, 5, (COUNT, TAGS))])
    appeal = ContentAppeal(WIDTH, categories=3)
    appeal.build()
    appeal.assign(rng.normal(size=WIDTH + 4))
    ranker = ServedRanker(
        tower,
        appeal,
        category=category,
        tags=tags,
        appeal=np.r_[0, rng.normal(size=COUNT)],
        clicks=np.r_[0, rng.integers(0, 90, COUNT)],
        click_rate=np.r_[0, rng.normal(size=COUNT)],
        published_at=np.r_[0, NOON - 3600 * rng.integers(0, 99, COUNT)] * (np.arange(COUNT + 1) % 5 > 0),
        retrieve=12,
    )
    return Recommender(
        content,
        behaviour,
        TextEncoder(preset, max_tokens=12),
        item_ids=ITEMS,
        embeddings=embeddings,
        on_offer=np.arange(COUNT) % 11 != 10,
        items=ITEMS,
        categories=["food", "football", "weather"],
        tags=["goal", "rain", "storm", "wine"],
        tags_kept=TAGS,
        languages=["de", "en"],
        devices=["desktop", "mobile"],
        history=HISTORY,
        top_k=8,
        ranker=ranker if ranked else None,
    )


@pytest.fixture(scope="session", params=["one stage", "two stages"])
def pair(
    request: pytest.FixtureRequest, tiny_preset: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recommender, Path]:
    """A served graph and its bundle."""
    served = make_served(tiny_preset, ranked=request.param == "two stages", seed=9)
    folder = tmp_path_factory.mktemp("edge") / "bundle"
    write_bundle(folder, served)
    return served, folder


@pytest.fixture(scope="session")
def bundles(tiny_preset: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of different weights."""
    root = tmp_path_factory.mktemp("edge")
    for number in (1, 2):
        write_bundle(root / str(number), make_served(tiny_preset, ranked=False, seed=number), version=str(number))
    return [root / "1", root / "2"]


@pytest.fixture
def bundle(bundles: list[Path], tmp_path: Path) -> Path:
    """A copy of a bundle, to be damaged."""
    return Path(shutil.copytree(bundles[0], tmp_path / "bundle"))


@pytest.fixture
def store_folder(bundles: list[Path], tmp_path: Path) -> Path:
    """A folder with bundle 1; `add` brings another."""
    folder = tmp_path / "bundles"
    shutil.copytree(bundles[0], folder / "1")
    return folder


@pytest.fixture
def server(store_folder: Path) -> Iterator[EdgeServer]:
    """A server that looks for newer bundles when it is asked to."""
    with EdgeServer(store_folder, poll_seconds=0) as running:
        yield running


@pytest.fixture
def client(server: EdgeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def edge(bundles: list[Path]) -> EdgeRecommender:
    """A recommender that no test changes."""
    return EdgeRecommender(bundles[0])


@pytest.fixture(scope="session")
def rewrite() -> Callable[..., None]:
    """Change a bundle's manifest and files, checksums included: the mistake of a writer, not of a copy."""

    def change(folder: Path, contents: dict[str, bytes] | None = None, **values: Any) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, content in (contents or {}).items():
            (folder / name).write_bytes(content)
            manifest["files"][name] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({**manifest, **values}))

    return change


def asked(history: list[str], language: str, **extra: list[str]) -> dict[str, tf.Tensor]:
    """A request of the graph's for one user; signals are as `events` makes them."""
    signals = [event[1:] for event in events(history)]
    columns = zip(*signals, strict=True) if signals else [(), (), ()]
    names = ("history_age_seconds", "history_dwell_seconds", "history_scroll_depth")
    return {
        "history_ids": tf.constant([history], tf.string, shape=(1, len(history))),
        **{name: tf.constant([list(c)], tf.float32, (1, len(c))) for name, c in zip(names, columns, strict=True)},
        "language": tf.constant([language]),
        "device": tf.constant(["mobile"]),
        "time_seconds": tf.constant([NOON], tf.int64),
        **{name: tf.constant([values], tf.string, (1, len(values))) for name, values in extra.items()},
    }


def events(history: list[str]) -> list[tuple[str, float, float, float]]:
    return [(item, 3600.0 * (len(history) - n), 10.0 + n, 0.25) for n, item in enumerate(history)]
