"""Photographs in groups: by source, pose, light, skin tone, and by what UTKFace's file names tell."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float

from mofaface.corpus import CorpusSplit
from mofaface.evaluation.bootstrap import Figure, figure
from mofaface.evaluation.photographs import Measured
from mofaface.skin_tone import BOUNDS, GROUPS

YAW_BOUNDS = (15.0, 30.0, 45.0)
AGE_BOUNDS = (10, 20, 40, 60)
SEX = ("male", "female")
RACE = ("white", "black", "asian", "indian", "others")
UTKFACE = re.compile(r"^(?P<age>\d{1,3})_(?P<sex>[01])_(?:(?P<race>[0-4])_)?\d{14,}")
# A mean of fewer photographs says nothing of a group.
FEWEST = 10


@dataclass(frozen=True)
class Grouping:
    """One way of putting photographs into groups."""

    title: str
    names: tuple[str, ...]
    """The groups in the order in which they are read."""
    group: tuple[str, ...]
    """The group of each photograph; "" where it has none."""


def groupings(corpus: CorpusSplit, measured: Measured) -> list[Grouping]:
    """All groupings that tell some photographs apart."""
    traits = measured.traits
    found = [
        _named("source", corpus.sources),
        between("head turned by (°)", np.degrees(np.abs(corpus.yaw)), YAW_BOUNDS),
        thirds("light, brightness", traits["brightness"]),
        thirds("light, directionality", traits["directionality"]),
        skin_tones("skin tone of the photo", traits["ita_photo"]),
        skin_tones("skin tone of the reflectance", traits["ita_reflectance"]),
        *utkface(corpus.names),
    ]
    return [g for g in found if len(set(g.group) - {""}) > 1]


def between(
    title: str, values: Float[np.ndarray, "photos"], bounds: tuple[float, ...], digits: int = 0
) -> Grouping:
    """Groups between bounds, the lower bound inside."""
    edges = [f"{b:.{digits}f}" for b in bounds]
    names = (
        f"below {edges[0]}",
        *(f"{a}–{b}" for a, b in zip(edges, edges[1:], strict=False)),
        f"{edges[-1]} and more",
    )
    return Grouping(title, names, tuple(names[i] for i in np.digitize(values, bounds)))


def thirds(title: str, values: Float[np.ndarray, "photos"]) -> Grouping:
    """Three groups of as many photographs each, by the value."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return between(title, values, (float(low), float(high)), digits=3)


def skin_tones(title: str, angle: Float[np.ndarray, "photos"]) -> Grouping:
    """The six groups of the individual typology angle (degrees), from dark to very light."""
    return Grouping(title, GROUPS, tuple(GROUPS[i] for i in np.digitize(angle, BOUNDS)))


def utkface(names: tuple[str, ...]) -> list[Grouping]:
    """Sex, age and race in names such as 25_0_1_2017….jpg; photographs of other collections have no group."""
    told = [UTKFACE.match(PurePosixPath(name).name) for name in names]
    bounds = (*AGE_BOUNDS, None)
    ages = tuple(
        f"{a}–{b - 1}" if b else f"{a} and more" for a, b in zip((0, *AGE_BOUNDS), bounds, strict=True)
    )
    by_age = tuple(ages[int(np.digitize(int(m["age"]), AGE_BOUNDS))] if m else "" for m in told)
    return [
        Grouping("sex (UTKFace)", SEX, tuple(SEX[int(m["sex"])] if m else "" for m in told)),
        Grouping("age (UTKFace)", ages, by_age),
        Grouping(
            "race (UTKFace)", RACE, tuple(RACE[int(m["race"])] if m and m["race"] else "" for m in told)
        ),
    ]


def figures_of(
    grouping: Grouping, values: Float[np.ndarray, "photos"], people: tuple[str, ...]
) -> dict[str, Figure]:
    """The figure of every group that has measured photographs, in the grouping's order."""
    group, person = np.array(grouping.group), np.array(people)
    known = ~np.isnan(values)
    present = [name for name in grouping.names if known[group == name].any()]
    return {name: figure(values[group == name], person[group == name].tolist()) for name in present}


def _named(title: str, group: tuple[str, ...]) -> Grouping:
    return Grouping(title, tuple(sorted(set(group))), group)
