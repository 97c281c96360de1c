"""A fingerprint: what features, predictions and embeddings were like, small enough to travel with a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.monitoring.features import Feature

OTHERS = "(others)"
IN_VERSION = "assets.extra/fingerprint.json"  # where an exported version keeps its own
_MOST_CATEGORIES = 100
_POINTS = 256
PROJECTED = 8  # directions that a centroid is tested in
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[float, Field(ge=0)]


class BadFingerprint(ValueError):
    """One sentence says what cannot be read.

    Example:
        >>> from serving import BadFingerprint, Fingerprint
        >>> try:
        ...     Fingerprint.parse("{}")
        ... except BadFingerprint as error:
        ...     print(type(error).__name__)
        BadFingerprint
    """


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rows: int = Field(ge=1)
    worth: float = Field(gt=0)  # independent draws: see `features.Feature.worth`


class Categories(_Part):
    """Counts of a feature's values, by their weights; the rarest are `OTHERS`."""

    counts: dict[str, _Count]

    @model_validator(mode="after")
    def _check(self) -> Categories:
        if not sum(self.counts.values()) > 0:
            raise ValueError("there are no counts")
        return self


class Numbers(_Part):
    """A distribution function at points of it: at quantiles, or at every value where there are few.

    `at_most[i]` is the share of values up to and with `points[i]`, `below[i]` of those under it.
    """

    points: list[float] = Field(min_length=1)
    at_most: list[_Share]
    below: list[_Share]

    @model_validator(mode="after")
    def _check(self) -> Numbers:
        if not len(self.points) == len(self.at_most) == len(self.below):
            raise ValueError("points and their shares are not equally many")
        steps = np.diff(self.points) > 0 if len(self.points) > 1 else np.ones(1, bool)
        if not steps.all() or (np.diff(self.at_most) < 0).any() or (np.array(self.below) > self.at_most).any():
            raise ValueError("the points or shares are not in order")
        return self

    def share(self, value: np.ndarray, *, below: bool = False) -> np.ndarray:
        """The share of values up to these, or under them."""
        points = np.array(self.points)
        place = np.searchsorted(points, value, "right") - 1
        found = np.where(place >= 0, np.append(self.at_most, 0.0)[place], 0.0)
        if not below:
            return found
        same = (place >= 0) & (np.append(points, np.nan)[place] == value)
        before = np.where(place > 0, np.append(self.at_most, 0.0)[place - 1], 0.0)
        return np.where(same, np.append(self.below, 0.0)[place], np.where(place >= 0, found, before))

    def quantile(self, share: float) -> float:
        """The least point that this share of the values does not exceed."""
        place = int(np.searchsorted(self.at_most, share - 1e-12, "left"))
        return self.points[min(place, len(self.points) - 1)]


class Vectors(_Part):
    """Where vectors (n, D) are: their mean, and in a few fixed directions also how they vary.

    `spread` is the root of the mean squared distance from the centroid.
    """

    centroid: list[float] = Field(min_length=1)
    spread: _Count
    projected: list[float]
    covariance: list[list[float]]

    @model_validator(mode="after")
    def _check(self) -> Vectors:
        size = len(self.projected)
        if size != min(PROJECTED, len(self.centroid)) or [len(row) for row in self.covariance] != [size] * size:
            raise ValueError("the directions of a centroid do not fit its width")
        return self


class Fingerprint(BaseModel):
    """What a window, or the data that a model was trained on, was like.

    Numbers and counts alone: no id of a user or item is in it.

    Args:
        source: For people: what it is of.
        hours: The length of the windows in which a user counts once; fingerprints of other lengths are not comparable.
        history: Events of a user that the model is told.
        until: Where the training data ended, in microseconds since 1970; None for a window of traffic.
        model, version: Whose scores and embeddings these are.
        usual: By feature, how large a difference is between any two of the windows that it was made of, where it was
            of several.
        usual_next: The same between a window and the next.

    Example:
        >>> from serving import Fingerprint
        >>> known = Fingerprint.load("models/news/1")  # what the exported version was trained on
        >>> known.model, known.version, "language" in known.categories
        ('news', 1, True)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    source: str
    hours: float = Field(gt=0)
    history: int | None = None
    until: int | None = None
    model: str | None = None
    version: int | None = None
    categories: dict[str, Categories] = {}
    numbers: dict[str, Numbers] = {}
    vectors: dict[str, Vectors] = {}
    usual: dict[str, _Count] = {}
    usual_next: dict[str, _Count] = {}

    @classmethod
    def of(
        cls,
        features: Mapping[str, Feature],
        vectors: Mapping[str, Feature] | None = None,
        *,
        source: str,
        hours: float,
        history: int | None = None,
        until: int | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> Fingerprint:
        """Make one.

        Args:
            features: By name: str values are categories, others numbers. One with no value is left out.
            vectors: By name, with values (n, D).
        """
        categories, numbers = {}, {}
        for name, feature in features.items():
            if feature.values.dtype == object:
                if len(feature.values):
                    categories[name] = _categories(feature)
            elif np.isfinite(feature.values).any():
                numbers[name] = _numbers(feature)
        kept = {name: _vectors(each) for name, each in (vectors or {}).items() if len(each.values) > 1}
        return cls(
            source=source,
            hours=hours,
            history=history,
            until=until,
            model=model,
            version=version,
            categories=categories,
            numbers=numbers,
            vectors=kept,
        )

    def dump(self) -> str:
        """As JSON."""
        return self.model_dump_json()

    @classmethod
    def parse(cls, text: str | bytes) -> Fingerprint:
        """Read JSON.

        Raises:
            BadFingerprint: It is none, or a newer Belfry's.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            if first["loc"] == ("format",):
                raise BadFingerprint("The fingerprint is a newer Belfry's.") from None
            what = f"{where}: {first['msg']}" if where else first["msg"]
            raise BadFingerprint(f"The fingerprint cannot be read ({what}).") from None

    @classmethod
    def load(cls, path: Path | str) -> Fingerprint:
        """Read a file, or that of an exported version's folder MODELS/NAME/VERSION.

        Raises:
            BadFingerprint: It is not there, or is none.
        """
        path = Path(path)
        path = path / IN_VERSION if path.is_dir() else path
        try:
            return cls.parse(path.read_bytes())
        except OSError as error:
            raise BadFingerprint(f"The fingerprint {path} cannot be read: {error.strerror}.") from None


def _categories(feature: Feature) -> Categories:
    names, places = np.unique(feature.values.astype(str), return_inverse=True)
    counts = np.bincount(places, feature.weights)
    order = np.argsort(-counts, kind="stable")
    found = {str(names[place]): float(counts[place]) for place in order[:_MOST_CATEGORIES]}
    rest = float(counts[order[_MOST_CATEGORIES:]].sum())
    if rest:
        found[OTHERS] = found.get(OTHERS, 0) + rest
    return Categories(rows=len(feature.values), worth=feature.worth(), counts=found)


def _numbers(feature: Feature) -> Numbers:
    there = np.sort(feature.values[np.isfinite(feature.values)].astype(np.float64))
    # What JSON keeps is what is counted.
    there = np.sort(np.array([float(f"{value:.9g}") for value in there]))
    points = np.unique(there)
    if len(points) > _POINTS:
        points = np.unique(np.quantile(there, np.linspace(0, 1, _POINTS), method="inverted_cdf"))
    return Numbers(
        rows=len(there),
        worth=feature.worth(),
        points=points.tolist(),
        at_most=(np.searchsorted(there, points, "right") / len(there)).tolist(),
        below=(np.searchsorted(there, points, "left") / len(there)).tolist(),
    )


def _vectors(feature: Feature) -> Vectors:
    values = feature.values.astype(np.float64)
    projected = values @ directions(values.shape[1])
    centred = values - values.mean(axis=0)
    return Vectors(
        rows=len(values),
        worth=feature.worth(),
        centroid=values.mean(axis=0).tolist(),
        spread=float(np.sqrt((centred**2).sum(axis=1).mean())),
        projected=projected.mean(axis=0).tolist(),
        covariance=np.atleast_2d(np.cov(projected, rowvar=False)).tolist(),
    )


def directions(width: int) -> np.ndarray:
    """(D, d): the same directions for every fingerprint, of +1 and -1 (Achlioptas 2003).

    From the generator's raw bits, which NumPy promises not to change.
    """
    if width <= PROJECTED:
        return np.eye(width)
    bits = np.random.PCG64(20_030_601).random_raw(width * PROJECTED) >> np.uint64(63)
    return (2.0 * bits.astype(np.float64) - 1).reshape(width, PROJECTED) / np.sqrt(width)
