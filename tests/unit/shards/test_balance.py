import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.config import BalanceConfig
from prodrec.errors import ConfigError
from prodrec.recipes import load_recipe, parse_recipe, recipe_names
from prodrec.shards.balance import class_weights, log_prior, repeat_factors

counts = st.lists(st.integers(0, 500), min_size=1, max_size=20).filter(any).map(np.array)
configs = st.builds(
    BalanceConfig,
    class_weights=st.sampled_from(["none", "inverse", "inverse_sqrt", "effective"]),
    sampling=st.sampled_from(["none", "over", "under"]),
    threshold=st.none() | st.floats(0.01, 0.5),
    max_ratio=st.floats(1, 5),
)


@given(counts, configs)
def test_weights_are_positive_and_average_one_over_what_an_epoch_shows(counts_K, config):
    weights = class_weights(counts_K, config)
    shown = counts_K * repeat_factors(counts_K, config)
    assert (weights > 0).all()
    assert (weights * shown).sum() / shown.sum() == pytest.approx(1)


@given(counts, configs)
def test_rare_classes_never_count_less(counts_K, config):
    order = np.argsort(counts_K)
    order = order[counts_K[order] > 0]
    for values in (class_weights(counts_K, config), repeat_factors(counts_K, config)):
        if values is not None and config.sampling == "none":
            assert (np.diff(values[order]) <= 1e-9).all()


def test_formulas():
    counts_K = np.array([100, 10, 0])
    inverse = class_weights(counts_K, BalanceConfig(class_weights="inverse"))
    assert inverse[1] / inverse[0] == pytest.approx(10)
    softened = class_weights(counts_K, BalanceConfig(class_weights="inverse_sqrt"))
    assert softened[1] / softened[0] == pytest.approx(np.sqrt(10))
    effective = class_weights(counts_K, BalanceConfig(class_weights="effective", beta=0.9))
    assert effective[1] / effective[0] == pytest.approx((1 - 0.9**100) / (1 - 0.9**10))
    assert (class_weights(counts_K, BalanceConfig()) == 1).all()
    over = repeat_factors(counts_K, BalanceConfig(sampling="over", threshold=0.5))
    assert over.tolist() == pytest.approx([1, np.sqrt(0.5 / (10 / 110)), 1])
    assert repeat_factors(counts_K, BalanceConfig(sampling="over")).tolist() == over.tolist(), "an even share of two classes is a half"
    under = repeat_factors(counts_K, BalanceConfig(sampling="under", max_ratio=1))
    assert under.tolist() == pytest.approx([55 / 100, 1, 1])


def test_full_over_sampling_leaves_inverse_weights_nothing_to_correct():
    counts_K = np.array([400, 100])
    config = BalanceConfig(class_weights="inverse", sampling="under", max_ratio=1)
    shown = counts_K * repeat_factors(counts_K, config)
    weights = class_weights(counts_K, config)
    assert weights[0] * shown[0] == pytest.approx(weights[1] * shown[1])


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).kind == "classifier"])
def test_no_recipe_trains_with_inverse_weights_under_another_name(name):
    """Drawn like Products-10K: many classes of a few images, few of many. Source: docs/results.md, inverse weights cost 9 points."""
    counts_K = np.random.default_rng(0).geometric(1 / 13.7, 9691)
    weights, inverse = class_weights(counts_K, load_recipe(name).balance), class_weights(counts_K, BalanceConfig(class_weights="inverse"))
    ratio = weights / inverse
    assert ratio.max() / ratio.min() > 2


@given(counts, configs.filter(lambda config: config.class_weights == "none"), st.floats(0, 2))
def test_the_prior_is_of_what_an_epoch_shows(counts_K, config, tau):
    config = config.model_copy(update={"logit_adjustment": tau})
    found, shown = log_prior(counts_K, config), np.maximum(1, counts_K * repeat_factors(counts_K, config))
    assert np.isfinite(found).all()
    assert found == pytest.approx(tau * np.log(shown / shown.sum()))


def test_prior_and_class_weights_would_correct_twice():
    tree = {"name": "twice", "model": {"arch": "custom_cnn"}, "balance": {"logit_adjustment": 1.0, "class_weights": "effective"}}
    with pytest.raises(ConfigError, match=r"would correct the same thing twice; set class_weights=none"):
        parse_recipe(tree, "test")
