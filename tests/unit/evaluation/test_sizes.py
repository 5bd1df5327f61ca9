"""Shards of 48 px against models that want more, or saw others."""

import pytest

from prodrec.config import PreprocessSpec
from prodrec.evaluation.sizes import enlarged, needed_short_side, other_size, size_notes
from prodrec.models.bundle_files import load_info
from prodrec.recipes import load_recipe
from prodrec.shards.reading import open_shards


@pytest.mark.parametrize(
    ("spec", "needed", "is_enlarged"),
    [
        ({"size": 42, "resize": "crop", "crop_fraction": 0.875}, 48, False),
        ({"size": 43, "resize": "crop", "crop_fraction": 0.875}, 50, True),
        ({"size": 48, "resize": "squash"}, 48, False),
        ({"size": 64, "resize": "squash"}, 64, True),
        ({"size": 64, "resize": "pad"}, 64, False),
    ],
)
def test_an_input_that_is_larger_than_the_images_is_told_with_the_size_that_fits(small_shards, spec, needed, is_enlarged):
    shards, wanted = open_shards(small_shards), PreprocessSpec(**spec)
    told = enlarged(wanted, shards)
    assert needed_short_side(wanted) == needed
    assert bool(told) == is_enlarged
    if told:
        assert f"--short-side {needed}" in told
        fits = int(told.partition("input.size=")[2].partition("input.size=")[2].split()[0])
        assert enlarged(wanted.model_copy(update={"size": fits}), shards) is None
        assert enlarged(wanted.model_copy(update={"size": fits + 1}), shards)


def test_a_recipe_is_told_before_it_is_trained(small_shards):
    shards = open_shards(small_shards)
    assert size_notes(load_recipe("demo", ["input.size=32"]), shards) == []
    [told] = size_notes(load_recipe("demo", ["input.size=128"]), shards)
    assert "short side of 48 px" in told


def test_a_bundle_is_told_of_shards_of_another_size_where_that_changes_its_inputs(small_bundle, small_shards):
    info, shards = load_info(small_bundle), open_shards(small_shards)
    assert other_size(info, shards) is None
    large = info.input.model_copy(update={"size": 224})
    assert "--short-side 320" in other_size(info.model_copy(update={"short_side": 320, "input": large}), shards)
    assert other_size(info.model_copy(update={"short_side": 320, "input": info.input.model_copy(update={"size": 28})}), shards) is None
