"""Cover images: 48 x 48 JPEG whose colour, shape and texture tell the topic, with much that does not."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipelines.data.sources.newsroom.articles import Articles
from pipelines.data.sources.newsroom.language import topics
from pipelines.data.sources.newsroom.sizes import stream

PIXELS = 48
_SHAPES = 6
_HUE_NOISE = 0.05
_NOISE = 20.0  # of a channel's 255

_Y, _X = np.mgrid[-1 : 1 : PIXELS * 1j, -1 : 1 : PIXELS * 1j]


def cover(articles: Articles, row: int, seed: int) -> bytes:
    """The cover of an article, the same whenever it is asked for."""
    rng = stream(seed, 5, row)
    topic, subtopic = int(articles.topic[row]), int(articles.subtopic[row])
    turn, size, left, top, hue, light = rng.uniform(-1, 1, 6)
    angle = np.pi * turn / 6
    x = np.cos(angle) * _X - np.sin(angle) * _Y - 0.3 * left
    y = np.sin(angle) * _X + np.cos(angle) * _Y - 0.3 * top
    mask = _shape(topic % _SHAPES, x, y, 0.55 + 0.15 * size)
    colour = topic / len(topics().names) + _HUE_NOISE * rng.normal()
    front, back = _rgb(colour, 0.75, 0.75 + 0.2 * light), _rgb(colour + 0.08 + 0.1 * hue, 0.3, 0.6 + 0.2 * light)
    picture = np.where(mask[..., None], front, back) * 255
    # The sub-topic is in the grain: waves of three widths.
    picture += 14 * np.sin((4 + 5 * (subtopic % 3)) * (x + y))[..., None]
    picture += rng.normal(0, _NOISE, picture.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return file.getvalue()


def _shape(kind: int, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    radius = np.hypot(x, y)
    if kind == 0:
        return radius < size
    if kind == 1:
        return np.maximum(abs(x), abs(y)) < size
    if kind == 2:
        return abs(radius - size) < 0.18
    if kind == 3:
        return np.sin(9 * x / (size + 0.4)) > 0
    if kind == 4:
        return (abs(x) < size / 3) | (abs(y) < size / 3)
    return (np.sin(7 * x) > 0) ^ (np.sin(7 * y) > 0)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """HSV to RGB, all 0 to 1."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
