"""Who is held out: a stable function of the person's name, the same on every machine and in every archive."""

import hashlib
from typing import Literal

SplitName = Literal["train", "validation"]


def split_of(person: str, validation_fraction: float, seed: int = 0) -> SplitName:
    """The split of everything that shows this person."""
    return "validation" if unit_hash(person, seed) < validation_fraction else "train"


def unit_hash(text: str, seed: int = 0) -> float:
    """A number in [0, 1) that only the text and the seed decide."""
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
