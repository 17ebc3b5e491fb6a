"""Means with intervals that respect that several photographs show one person."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

DRAWS = 1000
LEVEL = 0.95
# So many resampled counts are held at once: a thousand draws of a thousand people.
AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A mean over photographs with its 95 % interval, and how the values are spread."""

    mean: float
    low: float
    """The interval is not a number where all photographs are of one person: then nothing is known about others."""
    high: float
    count: int
    """Photographs."""
    people: int
    """What was drawn anew: people, or photographs where nobody is known."""
    median: float
    p90: float
    """Nine of ten photographs are not above this."""

    def __str__(self) -> str:
        interval = "one person" if math.isnan(self.low) else f"{self.low:.4g}, {self.high:.4g}"
        return f"{self.mean:.4g} [{interval}] (n = {self.count})"

    def plain(self) -> dict[str, Any]:
        """The same for JSON, which has no "not a number"."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()
        }


def figure(values: Float[np.ndarray, "photos"], people: Sequence[str] | None = None, seed: int = 0) -> Figure:
    """The mean of values and its bootstrapped 95 % interval, people drawn with all their photographs.

    Values that are not a number count as not measured; ValueError where none is left.
    """
    known = ~np.isnan(values)
    kept = values[known].astype(np.float64)
    if not len(kept):
        raise ValueError(f"a figure needs at least one measured photograph; of {len(values)} none is")
    names = np.arange(len(values)) if people is None else np.asarray(people)
    person = np.unique(names[known], return_inverse=True)[1]
    low, high = interval(kept, person, seed)
    return Figure(
        float(kept.mean()),
        low,
        high,
        len(kept),
        int(person.max()) + 1,
        float(np.median(kept)),
        float(np.quantile(kept, 0.9)),
    )


def interval(
    values: Float[np.ndarray, "photos"], person: Int[np.ndarray, "photos"], seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean: percentiles over draws of people (numbered from 0) with replacement.

    A draw's mean is over its photographs, so that it estimates the same mean as all photographs do.
    """
    total, count = np.bincount(person, values), np.bincount(person)
    people = len(total)
    if people == 1:
        return math.nan, math.nan
    rng, means = np.random.default_rng(seed), []
    step = max(1, AT_ONCE // people)
    for first in range(0, DRAWS, step):
        drawn = rng.multinomial(people, np.full(people, 1 / people), size=min(step, DRAWS - first))
        means.append((drawn @ total) / (drawn @ count))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
