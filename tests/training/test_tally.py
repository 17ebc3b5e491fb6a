"""Sums for the log."""

import json
import math

import pytest
import torch

from mofaface.training.tally import NAMES, Tally

YES, NO = torch.tensor(True), torch.tensor(False)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


def test_means_are_those_since_the_last_reading():
    tally = Tally("cpu")
    tally.add(values(1, 2, 3, 4), YES)
    tally.add(values(3, 2, 1, 0), YES)
    assert tally.means() == dict(zip(NAMES, (2, 2, 2, 2), strict=True))
    tally.add(values(8, 0, 0, 0), YES)
    assert tally.means()["loss"] == 8


def test_mean_leaves_out_what_is_no_number():
    tally = Tally("cpu")
    for loss in (1.0, math.nan, math.inf, -math.inf, 3.0):
        tally.add(values(loss, math.nan, 1, 1), YES)
    assert tally.means() == {"loss": 2, "photo": None, "land": 1, "landmark_px": 1}


def test_nothing_added_gives_nothing():
    assert Tally("cpu").means() == {}


@pytest.mark.parametrize(
    "flags, skipped, longest",
    [("+++", 0, 0), ("+-+", 1, 1), ("--+-", 3, 2), ("-+---+", 4, 3)],
)
def test_skips_are_counted_alone_and_in_a_row(flags, skipped, longest):
    tally = Tally("cpu")
    for flag in flags:
        tally.add(values(1, 1, 1, 1), torch.tensor(flag == "+"))
    assert tally.skips() == (skipped, longest)


def test_what_a_checkpoint_kept_goes_on():
    tally, other = Tally("cpu"), Tally("cpu")
    tally.add(values(1, math.nan, 1 / 3, 4), YES)
    tally.add(values(1, 1, 1, 1), NO)
    other.restore(json.loads(json.dumps(tally.state())))
    for each in (tally, other):
        each.add(values(2, 2, 2, 2), NO)
    assert other.row() == 2 and other.skips() == tally.skips() == (2, 2)
    assert other.means() == tally.means()


def test_a_row_goes_on_over_a_reading():
    tally = Tally("cpu")
    for _ in range(3):
        tally.add(values(1, 1, 1, 1), NO)
    tally.skips()
    tally.add(values(1, 1, 1, 1), NO)
    assert tally.skips() == (1, 4)
