"""Newsroom: a seeded simulator of a multilingual news platform whose true click probabilities are known."""

from pipelines.data.sources.newsroom.sizes import SIZES, NewsroomSize
from pipelines.data.sources.newsroom.source import import_newsroom
from pipelines.data.sources.newsroom.world import Newsroom

__all__ = ["SIZES", "Newsroom", "NewsroomSize", "import_newsroom"]
