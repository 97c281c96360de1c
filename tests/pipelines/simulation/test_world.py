"""A world whose taste moves: the same for the same seed, and nothing in it lost."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.sources.newsroom.sizes import DAY, END, SLATE
from pipelines.errors import BadInput
from pipelines.simulation.world import Hour, World


@pytest.fixture(scope="module")
def world() -> World:
    return World.of(days=4, warm_up=4, size="tiny", drift=1.5, seed=3)


def test_the_same_seed_makes_the_same_world(world: World) -> None:
    again = World.of(days=4, warm_up=4, size="tiny", drift=1.5, seed=3)
    assert world.published(0, END) == again.published(0, END)
    for one, other in zip(world.hours(1), again.hours(1), strict=True):
        assert one.user.tolist() == other.user.tolist()
        assert one.at.tolist() == other.at.tolist()


def test_taste_moves_from_one_end_to_the_other(world: World) -> None:
    newsroom = world.newsroom
    still = World.of(days=4, warm_up=4, size="tiny", drift=0.0, seed=3).newsroom
    items = np.arange(len(newsroom.articles))
    assert newsroom.worth is not None
    worth = newsroom.worth[newsroom.articles.subtopic]
    assert np.abs(worth).max() > 0.5

    def moved(at: int) -> np.ndarray:
        users, times = np.zeros(len(items), np.int64), np.full(len(items), at)
        return np.asarray(newsroom.log_odds(users, items, times) - still.log_odds(users, items, times))

    np.testing.assert_allclose(moved(world.live_from - DAY), -worth, atol=1e-6)
    np.testing.assert_allclose(moved(world.live_from + DAY), 0.0, atol=1e-6)
    np.testing.assert_allclose(moved(END - 1), worth, atol=1e-6)


def test_every_article_appears_and_every_visit_comes_once(world: World) -> None:
    first = int(world.newsroom.articles.published_at.min())
    days = [(world.live_from + day * DAY, world.live_from + (day + 1) * DAY) for day in range(world.days)]
    ids = [each["item_id"] for begin, end in [(first, world.live_from), *days] for each in world.published(begin, end)]
    assert sorted(ids) == world.newsroom.articles.ids.tolist()
    hours = [hour for day in range(world.days) for hour in world.hours(day)]
    assert len(hours) == 24 * world.days
    for hour in hours:
        assert ((hour.at >= hour.begin) & (hour.at < hour.begin + 3_600)).all()
        assert len(set(hour.user.tolist())) == len(hour.user)
    before = sum(len(slates.user) for slates in world.before())
    assert before + sum(len(hour.user) for hour in hours) == pytest.approx(8 * 150, rel=0.2)


def test_readers_do_nothing_with_what_they_are_not_shown(world: World) -> None:
    hour = max((hour for hour in world.hours(2)), key=lambda each: len(each.user))
    ids = world.newsroom.articles.ids.tolist()
    shown = [ids[:SLATE] if row % 2 else ids[:3] for row in range(len(hour.user))]
    done = world.behave(hour, shown)
    short = [row for row in range(len(shown)) if len(shown[row]) == 3]
    assert not done.clicked[short, 3:].any()
    assert not done.probability[short, 3:].any()
    assert (done.probability[:, :3] > 0).all()
    again = world.behave(hour, shown)
    assert (done.clicked == again.clicked).all()


def test_what_is_of_no_such_world_is_refused(world: World) -> None:
    hour = Hour(world.live_from, np.array([0]), np.array([world.live_from]))
    for item in ("nothing", "a000001x", "zzz"):
        with pytest.raises(BadInput, match="not of this simulation"):
            world.behave(hour, [[item]])
    assert world.behave(hour, [[]]).probability.sum() == 0
    with pytest.raises(BadInput, match="huge"):
        World.of(days=4, warm_up=4, size="huge", drift=0.0, seed=3)
    with pytest.raises(BadInput, match="two days before"):
        World.of(days=4, warm_up=1, size="tiny", drift=0.0, seed=3)
