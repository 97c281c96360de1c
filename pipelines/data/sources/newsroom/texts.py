"""Titles and bodies from the word lists: articles of one story share its entities and what it turns on."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pipelines.data.sources.newsroom.articles import Articles
from pipelines.data.sources.newsroom.language import LANGUAGES, Language, Wording, language

_LEAD = 0.2
_TAIL = 0.6
_STORY_THING = 0.7  # how often an article is about what its story turns on
_TRIES = 40


class Desk:
    """Writes the articles in order; no title appears twice."""

    def __init__(self, articles: Articles, seed: int) -> None:
        self.articles = articles
        self.random = random.Random(f"newsroom texts {seed}")
        self.languages = [language(code) for code in LANGUAGES]
        self.titles: set[str] = set()

    def write(self) -> Iterator[tuple[str, str]]:
        """Title and body of every article."""
        articles = self.articles
        names = articles.names.names
        for row in range(len(articles)):
            tongue = self.languages[articles.language[row]]
            wording = tongue.wording[articles.subtopic[row]]
            slots = _slots([str(names[place]) for place in articles.entities[row]])
            title = self._title(tongue, wording, slots, int(articles.thing[row]))
            yield title, self._body(wording, slots, int(articles.sentences[row]))

    def _title(self, tongue: Language, wording: Wording, slots: dict[str, str], thing: int) -> str:
        pick = self.random
        for _ in range(_TRIES):
            own = pick.random() < _STORY_THING
            slots["t"] = wording.things[thing % len(wording.things)] if own else pick.choice(wording.things)
            slots["n"] = str(pick.randint(3, 39))
            title = _capital(pick.choice(wording.titles).format_map(slots))
            if pick.random() < _TAIL and not title.endswith("?"):
                title += pick.choice(wording.tails).format_map(slots)
            if pick.random() < _LEAD:
                title = pick.choice(tongue.leads) + title
            if title not in self.titles:
                break
        else:
            title = f"{title} ({len(self.titles)})"
        self.titles.add(title)
        return title

    def _body(self, wording: Wording, slots: dict[str, str], sentences: int) -> str:
        pick = self.random
        own = pick.sample(wording.sentences, min(len(wording.sentences), max(1, (sentences + 1) // 2)))
        rest = pick.sample(wording.background, min(len(wording.background), sentences - len(own)))
        # The first sentence says what it is about.
        later = [*own[1:], *rest]
        pick.shuffle(later)
        text = []
        for sentence in (own[0], *later):
            slots["n"] = str(pick.randint(3, 39))
            text.append(_capital(sentence.format_map(slots)))
        # Where it is printed and where it comes from, as agencies put it.
        return f"{wording.section}, {slots['c']} – " + " ".join(text)


def _slots(names: list[str]) -> dict[str, str]:
    person, other, organisation, rival, town, other_town = names
    return {
        "p": person,
        "s": person.rpartition(" ")[2],
        "q": other,
        "z": other.rpartition(" ")[2],
        "o": organisation,
        "r": rival,
        "c": town,
        "k": other_town,
    }


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
