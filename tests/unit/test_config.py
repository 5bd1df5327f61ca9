import pytest
from pydantic import ValidationError

from prodrec.config import Frozen, explain_validation
from prodrec.errors import ConfigError
from prodrec.recipes import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_is_valid_and_says_where_its_weights_come_from(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.model.weights in {"hub", "none"}


def test_the_recipes_that_the_issue_names_are_there():
    assert {"custom_cnn", "resnet18", "resnet18_scratch", "resnet50", "resnet50_frozen", "vit_b16", "demo"} <= set(recipe_names())


def test_set_overrides_one_field_and_understands_numbers():
    recipe = load_recipe("resnet50", ["optim.lr=1e-4", "model.weights=none", "train.early_stop.patience=null", "model.args={output_stride: 16}"])
    assert recipe.optim.lr == 1e-4
    assert recipe.model.weights == "none"
    assert recipe.train.early_stop.patience is None
    assert recipe.model.args == {"output_stride": 16}
    assert recipe.optim.backbone_lr_fraction == load_recipe("resnet50").optim.backbone_lr_fraction


def test_a_recipe_file_and_its_name(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {arch: custom_cnn, weights: none}")
    assert load_recipe(str(tmp_path / "mine.yaml")).name == "mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.depth=3", "unknown key 'model.depth'; valid here: arch, weights, head"),
        ("colour=red", "unknown key 'colour'; valid here: name, kind, model, input"),
        ("train.early_stop.metrik=x", "valid here: metric, patience"),
        ("train.batch_size=1", "train.batch_size"),
        ("optim.lr=-1", "optim.lr"),
        ("input.normalize=other", "'zero_one', 'minus_one_one', 'imagenet' or 'clip'"),
        ("model.arch.x=1", "is a value, not a section"),
        ("model.freeze_backbone=true", "random features"),
        ("model.max_views=4", "model.max_views has no meaning without model.fuse"),
        ("model.fuse=sum", "'lstm', 'mean' or 'attention'"),
        ("=3", "expected a.b=value"),
        ("optim.lr=[", "not YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(override, message):
    with pytest.raises(ConfigError) as caught:
        load_recipe("custom_cnn", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["- a list", "a: b: c", "just text"])
def test_a_file_that_is_no_recipe(tmp_path, content):
    (tmp_path / "r.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        load_recipe(str(tmp_path / "r.yaml"))
    with pytest.raises(ConfigError, match="cannot read"):
        load_recipe(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("cnn_lstm", ["augment.mix=0.5"], "augment.mix mixes single images, and model.fuse takes listings"),
        ("fasterrcnn", ["model.fuse=mean"], "model.fuse has no meaning for a tagger"),
    ],
)
def test_fusing_views_is_refused_where_it_has_no_meaning(recipe, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe, overrides)


def test_a_list_of_which_nothing_is_valid_is_told_once():
    with pytest.raises(ConfigError) as caught:
        load_recipe("embed_then_fit", ["fit.heads=[foo]"])
    assert "fit.heads.0: Input should be 'linear'" in str(caught.value)
    assert "Tuple" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"fit\.heads: Tuple should have at least 1 item"):
        load_recipe("embed_then_fit", ["fit.heads=[]"])


def test_an_unknown_key_is_told_with_the_known_ones_wherever_it_stands():
    class Inner(Frozen):
        name: str

    class Outer(Frozen):
        inner: Inner | None = None
        several: list[Inner] = []
        by_name: dict[str, tuple[Inner, ...]] = {}

    for tree, path in (
        ({"inner": {"nam": "x", "name": "x"}}, "inner.nam"),
        ({"several": [{"name": "x"}, {"name": "x", "nam": "x"}]}, "several.1.nam"),
        ({"by_name": {"a": [{"name": "x", "nam": "x"}]}}, "by_name.a.0.nam"),
    ):
        with pytest.raises(ValidationError) as raised:
            Outer.model_validate(tree)
        assert explain_validation(raised.value, Outer) == f"unknown key '{path}'; valid here: name"
