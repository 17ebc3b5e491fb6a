"""The split is a stable function of the person."""

from mofaface.corpus.split import split_of, unit_hash


def test_the_split_never_changes_between_versions():
    # Numbers of the first version: whoever changes them moves held-out people into training.
    assert round(unit_hash("Abdullah_Gul"), 6) == 0.339561
    assert split_of("portraits_ai_cc0:female_39", 0.08) == "validation"


def test_the_held_out_share_is_the_one_asked_for():
    held_out = [split_of(f"person {i}", 0.08) == "validation" for i in range(20_000)]
    assert abs(sum(held_out) / 20_000 - 0.08) < 0.006


def test_a_larger_share_holds_out_the_same_people_and_more():
    persons = [f"person {i}" for i in range(500)]
    few, many = ({p for p in persons if split_of(p, share) == "validation"} for share in (0.1, 0.3))
    assert few < many


def test_the_ends_of_the_share_are_all_and_none():
    assert split_of("anyone", 0.0) == "train" and split_of("anyone", 1.0) == "validation"
