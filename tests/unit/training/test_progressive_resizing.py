import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import photo

from prodrec.errors import ConfigError
from prodrec.images.decode import decode_rgb
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.kinds import create_kind
from prodrec.training.progressive_resizing import training_sides


def recipe(start, size, epochs=3, arch="custom_cnn", args=None):
    tree = {"name": "growing", "model": {"arch": arch, "weights": "none", "args": args or {}}, "input": {"size": size}}
    return parse_recipe(tree | {"augment": {"start_size": start}, "train": {"epochs": epochs}}, "test")


@given(st.integers(1, 6), st.integers(1, 150), st.integers(1, 40))
def test_sides_grow_in_steps_of_32_and_end_at_the_full_one(start, more, epochs):
    sides = training_sides(recipe(32 * start, 32 * start + more, epochs))
    assert len(sides) == epochs
    assert sides[-1] == 32 * start + more
    assert sides == sorted(sides)
    assert all(side % 32 == 0 for side in sides if side != sides[-1])
    stages = sorted(set(sides))
    assert epochs == 1 or sides[0] == 32 * start
    assert max(map(sides.count, stages)) - min(map(sides.count, stages)) <= 1
    assert len(stages) == min(epochs, -(-more // 32) + 1)


def test_without_a_start_the_side_stays():
    assert training_sides(recipe(None, 100, 3)) == [100, 100, 100]


def test_training_pictures_grow_and_those_of_evaluation_do_not(small_shards):
    kind = create_kind(recipe(32, 96), open_shards(small_shards))
    picture = decode_rgb(photo(0, 1))
    assert [kind.train_transform(epoch)(picture, 0, 0).shape[-1] for epoch in (1, 2, 3)] == [32, 64, 96]
    assert kind.eval_transform()(picture, 0, 0).shape[-1] == 96


def test_a_network_of_one_size_is_refused_before_the_first_step(small_shards):
    shards, small = open_shards(small_shards), {"depth": 1, "embed_dim": 48, "num_heads": 3}
    with pytest.raises(ConfigError, match=r"augment.start_size: vit_tiny16 cannot take images of 32 pixels .*; leave it out") as caught:
        create_kind(recipe(32, 64, arch="vit_tiny16", args=small), shards)
    assert "\n" not in str(caught.value)
    create_kind(recipe(32, 64, arch="vit_tiny16", args=small | {"dynamic_img_size": True}), shards)
    create_kind(recipe(32, 64, arch="test_convnext"), shards)


@pytest.mark.parametrize("start", [48, 96, 128])
def test_sides_that_make_no_sense_are_one_clear_line(start):
    with pytest.raises(ConfigError, match=f"augment.start_size {start} must be a multiple of 32 below input.size 96"):
        recipe(start, 96)
