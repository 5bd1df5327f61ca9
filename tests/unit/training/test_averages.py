"""The moving average of the weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prodrec.training.averages import moving_average


def averaged(decay, steps):
    """The average of a weight that is 0 first and n after n steps, and of a statistic that is 10 n."""
    model = nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.zero_()
        average = moving_average(model, decay)
        for step in range(1, steps + 1):
            model.weight.fill_(float(step))
            model.running_mean.fill_(10.0 * step)
            average.update_parameters(model)
    return average.module.weight.item(), average.module.running_mean.item()


@given(st.floats(0.5, 0.9999), st.integers(1, 60))
def test_it_is_the_formula_and_statistics_go_with_the_weights(decay, steps):
    expected = 1.0  # the first step's weights are where it begins
    for step in range(2, steps + 1):
        now = min(decay, step / (9 + step))
        expected = now * expected + (1 - now) * step
    weight, mean = averaged(decay, steps)
    assert weight == pytest.approx(expected, rel=1e-4)
    assert mean == pytest.approx(10 * expected, rel=1e-4)


def test_a_short_run_is_not_mostly_its_first_weights():
    """Without a warm-up, of 100 steps at 0.999 nine tenths would be the first weights."""
    assert averaged(0.999, 100)[0] > 75


def test_a_decay_of_nothing_is_no_average():
    assert moving_average(nn.Linear(1, 1), 0.0) is None


def test_tables_of_indices_stay_those_of_the_model():
    """Averaged, they would lose one here and there: a Swin would look up other positions than its bundle does."""
    model = nn.BatchNorm1d(1)
    model.register_buffer("table", torch.arange(50, 5000), persistent=False)
    average = moving_average(model, 0.998)
    for _ in range(100):
        average.update_parameters(model)
    assert torch.equal(average.module.table, model.table)
    assert average.n_averaged == 100
