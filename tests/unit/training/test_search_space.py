import math

import pytest

from prodrec.errors import ConfigError
from prodrec.recipes import load_recipe
from prodrec.training.search_space import drawn_settings, with_settings


@pytest.mark.parametrize("name", ["custom_cnn", "efficientnet_b0", "fasterrcnn_tiny", "resnet10t_scratch", "cnn_lstm", "resnet50_frozen"])
def test_every_draw_is_a_recipe_of_its_own_and_the_first_is_the_recipe_as_it_is(name):
    recipe = load_recipe(name)
    drawn = drawn_settings(recipe, 24)
    made = [with_settings(recipe, one, recipe.name) for one in drawn]
    assert drawn[0] == {} and made[0] == recipe
    assert len({one.model_dump_json() for one in made}) == 24
    for settings, one in zip(drawn, made, strict=True):
        changed = one.model_dump(mode="json")
        assert all(changed[path.split(".")[0]][path.split(".")[1]] == value for path, value in settings.items())
        assert recipe.optim.lr / 3.01 <= one.optim.lr <= recipe.optim.lr * 3.01


def test_more_trials_begin_with_the_same_ones_and_another_seed_has_others():
    recipe = load_recipe("custom_cnn")
    assert drawn_settings(recipe, 12)[:5] == drawn_settings(recipe, 5)
    assert drawn_settings(recipe, 12, seed=1)[1:] != drawn_settings(recipe, 12)[1:]


def test_about_half_of_the_settings_stay_and_rates_spread_over_the_logarithm():
    recipe = load_recipe("efficientnet_b0")
    drawn = drawn_settings(recipe, 200)[1:]
    rates = [math.log(one["optim.lr"] / recipe.optim.lr) for one in drawn if "optim.lr" in one]
    assert 0.35 < len(rates) / len(drawn) < 0.65
    assert 0.35 < sum(rate > 0 for rate in rates) / len(rates) < 0.65
    assert min(rates) < -0.8 and max(rates) > 0.8
    assert {"optim.layer_decay", "optim.backbone_lr_fraction"} <= {path for one in drawn for path in one}


def test_a_network_from_scratch_has_no_settings_of_pretrained_ones():
    paths = {path for one in drawn_settings(load_recipe("custom_cnn"), 60) for path in one}
    assert not paths & {"optim.layer_decay", "optim.backbone_lr_fraction"}


def test_settings_that_do_not_go_together_are_never_drawn():
    recipe = load_recipe("custom_cnn", ["model.head=arcface"])
    assert all("augment.mix" not in one for one in drawn_settings(recipe, 60))
    with pytest.raises(ConfigError, match=r"augment\.mix has no meaning for model\.head=arcface"):
        with_settings(recipe, {"augment.mix": 0.5}, "x")
