import pytest

from prodrec.evaluation.slices import SLICE_RULES, SLICES, slice_of


@pytest.mark.parametrize(("images", "name"), [(0, "tail"), (19, "tail"), (20, "middle"), (100, "middle"), (101, "head"), (10**6, "head")])
def test_borders_are_those_of_the_paper(images, name):
    assert slice_of(images) == name


def test_every_slice_has_a_rule_in_words():
    assert tuple(SLICE_RULES) == SLICES
