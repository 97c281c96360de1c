"""What is to be learnt from the newsroom: interests, positions, freshness, languages, drift; and how much of it."""

import itertools

import numpy as np
import pytest

from pipelines.data.sources.newsroom import Newsroom, NewsroomSize
from pipelines.data.sources.newsroom.publisher import Publisher
from pipelines.data.sources.newsroom.simulation import Slates, simulate
from pipelines.data.sources.newsroom.sizes import DAY, END, SLATE, stream
from pipelines.data.sources.newsroom.texts import Desk
from pipelines.data.sources.newsroom.world import examination
from pipelines.metrics import slate_metrics
from pipelines.presets import MINILM, locate_preset


@pytest.fixture(scope="module")
def newsroom() -> Newsroom:
    return Newsroom.generate("small", seed=17)


@pytest.fixture(scope="module")
def log(newsroom: Newsroom) -> Slates:
    """All hours as one."""
    hours = list(simulate(newsroom))
    return Slates(**{name: np.concatenate([getattr(hour, name) for hour in hours]) for name in vars(hours[0])})


def auc(log: Slates, scores: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
    """Mean AUC per request."""
    clicked = log.clicked[rows]
    requests = len(clicked)
    ties = np.tile(np.arange(SLATE), requests)
    values = slate_metrics(np.arange(requests + 1) * SLATE, scores[rows].ravel().astype(float), clicked.ravel(), ties)
    return float(np.nanmean(values["auc"]))


def test_personal_interest_matters_most(newsroom: Newsroom, log: Slates) -> None:
    articles, at = newsroom.articles, log.at[:, None]
    oracle = auc(log, log.probability / examination(np.arange(SLATE)))
    personal = auc(log, newsroom.readers.affinity(log.user[:, None], log.item, articles, at))
    general = auc(log, articles.attractiveness(log.item, at))
    clicks = np.bincount(log.item[log.clicked], minlength=len(articles))
    popularity = auc(log, clicks[log.item])  # in hindsight, and so more than a ranker can know
    assert 0.76 < oracle < 0.85
    assert oracle > personal > popularity + 0.1
    assert 0.55 < general < 0.62
    assert 0.55 < popularity < 0.62


def test_clicks_are_as_frequent_as_on_real_platforms_and_fall_with_the_position(log: Slates) -> None:
    rate = log.clicked.mean(axis=0)
    assert 0.08 < rate.mean() < 0.12
    assert 2.4 < rate[0] / rate[-1] < 3.8
    assert log.clicked.mean() == pytest.approx(log.probability.mean(), abs=0.003)
    np.testing.assert_allclose(examination([0, 9]), [1.0, 0.331], atol=0.001)


def test_users_click_what_they_can_read(newsroom: Newsroom, log: Slates) -> None:
    readers = newsroom.readers
    language = newsroom.articles.language[log.item]
    first = language == readers.language[log.user][:, None]
    second = language == readers.second_language[log.user][:, None]
    assert (first | second)[log.clicked].all()
    assert 0.9 < first[log.clicked].mean() < 1
    shares = np.bincount(newsroom.articles.language) / len(newsroom.articles)
    np.testing.assert_allclose(shares, [0.6, 0.16, 0.12, 0.12], atol=0.01)
    foreign = newsroom.click_probability(readers.ids[readers.language == 0][0], newsroom.articles.ids, END)
    english = newsroom.articles.language == 0
    assert foreign[english].mean() > 3 * foreign[~english].mean()


def test_interests_drift_and_some_change_abruptly(newsroom: Newsroom) -> None:
    readers = newsroom.readers
    users, subtopics = np.indices(readers.first_interest.shape)

    def similarity(rows: np.ndarray, earlier: int, later: int) -> float:
        pair = [readers.interest(users[rows], subtopics[rows], np.array(at)).ravel() for at in (earlier, later)]
        return float(np.corrcoef(*pair)[0, 1])

    start = newsroom.size.start
    steady = readers.changed_at == END
    changed = (readers.changed_at > start + 6 * DAY) & (readers.changed_at < start + 8 * DAY)
    assert changed.sum() > 10
    assert similarity(steady, start, start + DAY) > 0.99
    assert 0.6 < similarity(steady, start, END - 1) < 0.95
    assert similarity(changed, start + 6 * DAY, start + 8 * DAY) < 0.4


def test_attractiveness_fades_and_stories_swell(newsroom: Newsroom) -> None:
    articles = newsroom.articles
    items = np.arange(len(articles))
    fresh = articles.attractiveness(items, articles.published_at)
    assert (fresh - articles.attractiveness(items, articles.published_at + 3 * DAY)).mean() > 0.5
    running = int(np.argmax(articles.story_heat))
    peak = articles.story_start[running] + articles.story_pace[running]
    moments = peak + articles.story_pace[running] * np.array([-0.9, 0.0, 5.0])
    heat = articles.attractiveness(np.full(3, running), np.maximum(moments, 0)) - articles.appeal[running]
    assert heat[1] > heat[2]
    assert max(np.bincount(articles.story)) > 15


def test_activity_is_heavy_tailed_and_follows_the_day(newsroom: Newsroom, log: Slates) -> None:
    visits = np.sort(np.bincount(log.user, minlength=newsroom.size.users))[::-1]
    assert visits[: len(visits) // 10].sum() > 0.3 * visits.sum()
    assert len(log.user) == newsroom.size.requests
    hours = np.bincount(log.at % DAY // 3600, minlength=24)
    assert hours[8] > 3 * hours[3]
    late = newsroom.readers.created_at > END - 2 * DAY
    assert np.isin(log.user, np.flatnonzero(late)).sum() > 20


def test_dwell_follows_interest_and_length(newsroom: Newsroom, log: Slates) -> None:
    interest = np.log(log.probability / (1 - log.probability))[log.clicked]
    dwell = np.log(log.dwell[log.clicked])
    assert np.corrcoef(interest, dwell)[0, 1] > 0.2
    assert np.corrcoef(newsroom.articles.sentences[log.item][log.clicked], dwell)[0, 1] > 0.1
    assert np.corrcoef(log.scroll[log.clicked], dwell)[0, 1] > 0.5


def test_the_logged_propensity_is_how_often_the_publisher_shows_an_item() -> None:
    newsroom = Newsroom.generate(NewsroomSize(articles=300, users=4_000, days=3, requests=10), seed=5)
    readers = newsroom.readers
    alike = np.flatnonzero((readers.language == 1) & (readers.second_language < 0))
    publisher = Publisher(newsroom.articles, readers, stream(5, 9))
    draws = [publisher.slates(alike, END) for _ in range(20)]
    item = np.concatenate([items for items, _ in draws])
    propensity = np.concatenate([shares for _, shares in draws])
    seen, first = np.unique(item[:, 0], return_index=True)
    shares = np.bincount(item[:, 0])[seen] / len(item)
    np.testing.assert_allclose(shares, propensity[first, 0], rtol=0.25)
    # 1 / propensity of a place is an unbiased count of the items that could have stood there.
    left = 1 / propensity
    np.testing.assert_allclose(left[:, 0].mean() - left[:, 9].mean(), 9, atol=1.5)
    assert all(len(set(slate)) == SLATE for slate in item[:200])


def test_an_item_that_was_read_does_not_come_back(log: Slates) -> None:
    row, position = np.nonzero(log.clicked)
    pairs = log.user[row] * 10_000 + log.item[row, position]
    assert len(np.unique(pairs)) > 0.995 * len(pairs)


def test_unknown_ids_are_named_and_arguments_broadcast(newsroom: Newsroom) -> None:
    users, items = newsroom.readers.ids[:3], newsroom.articles.ids[:5]
    table = newsroom.click_probability(users[:, None], items, END)
    assert table.shape == (3, 5)
    assert table[1, 2] == newsroom.click_probability(users[1], items[2], END)
    np.testing.assert_allclose(newsroom.click_probability(users[:, None], items, END, 3), table * examination(3))
    with pytest.raises(KeyError, match="nobody"):
        newsroom.click_probability("nobody", items, END)
    with pytest.raises(KeyError, match="zzz"):
        newsroom.click_probability(users[0], ["zzz"], END)


def test_covers_and_texts_do_not_change_behaviour(newsroom: Newsroom) -> None:
    again = Newsroom.generate("small", seed=17)
    list(Desk(again.articles, 17).write())
    np.testing.assert_array_equal(again.articles.appeal, newsroom.articles.appeal)
    np.testing.assert_array_equal(next(simulate(again)).item, next(simulate(newsroom)).item)


FIRST_DAYS = 5 * DAY  # what the encoder reads: all days would keep the tests waiting


@pytest.fixture(scope="module")
def english(newsroom: Newsroom) -> np.ndarray:
    """(N, D) unit vectors of the first days' English articles by the encoder as published; zero for the others."""
    from towers.runtime import tf
    from towers.text import TextEncoder, join_fields

    texts = list(Desk(newsroom.articles, newsroom.seed).write())
    encoder = TextEncoder(locate_preset(MINILM), 32)
    vectors = np.zeros((len(texts), encoder.width), dtype=np.float32)
    rows = np.flatnonzero(_first_english(newsroom))
    for chosen in np.array_split(rows, len(rows) // 64):
        titles, bodies = zip(*(texts[row] for row in chosen), strict=True)
        vectors[chosen] = encoder.encode(join_fields(tf.constant(titles), tf.constant(bodies))).numpy()
    return vectors


def _first_english(newsroom: Newsroom) -> np.ndarray:
    articles = newsroom.articles
    return (articles.language == 0) & (articles.published_at < newsroom.size.start + FIRST_DAYS)


def test_a_text_encoder_tells_topics_and_stories_apart(newsroom: Newsroom, english: np.ndarray) -> None:
    articles = newsroom.articles
    rows = np.flatnonzero(_first_english(newsroom))
    cosine = english[rows] @ english[rows].T
    pairs = np.triu(np.ones_like(cosine, dtype=bool), 1)
    topic, subtopic, story = (
        values[rows][:, None] == values[rows] for values in (articles.topic, articles.subtopic, articles.story)
    )
    across = cosine[pairs & ~topic].mean()
    within_topic = cosine[pairs & topic & ~subtopic].mean()
    within_subtopic = cosine[pairs & subtopic & ~story].mean()
    assert within_topic > across + 0.08
    assert within_subtopic > within_topic + 0.15
    assert cosine[pairs & story].mean() > within_subtopic + 0.08


def test_what_users_read_predicts_what_they_click_but_not_all_of_it(
    newsroom: Newsroom, log: Slates, english: np.ndarray
) -> None:
    # The mean of what a user clicked in the hours before, in the order of the log.
    hour = log.at // 3600
    profile = np.zeros((newsroom.size.users, english.shape[1]), dtype=np.float32)
    scores = np.zeros(log.item.shape)
    for begin, end in itertools.pairwise([*np.unique(hour, return_index=True)[1], len(hour)]):
        rows = slice(begin, end)
        scores[rows] = np.einsum("rd,rkd->rk", profile[log.user[rows]], english[log.item[rows]])
        row, position = np.nonzero(log.clicked[rows])
        np.add.at(profile, log.user[rows][row], english[log.item[rows][row, position]])
    only_english = (newsroom.readers.language == 0) & (newsroom.readers.second_language < 0)
    asked = only_english[log.user] & scores.any(axis=1) & (log.at < newsroom.size.start + FIRST_DAYS)
    oracle = auc(log, log.probability / examination(np.arange(SLATE)), asked)
    assert 0.58 < auc(log, scores, asked) < oracle - 0.1
