from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.evaluation.significance import mcnemar

COUNTS = st.integers(0, 300)


@given(COUNTS, COUNTS)
def test_it_is_the_two_sided_binomial_in_exact_fractions(first, second):
    n = first + second
    tail = sum(comb(n, i) for i in range(n + 1) if abs(2 * i - n) >= abs(first - second))
    assert mcnemar(first, second) == pytest.approx(float(Fraction(tail, 2**n)), rel=1e-9)


@given(COUNTS, COUNTS)
def test_who_comes_first_does_not_matter(first, second):
    assert mcnemar(first, second) == mcnemar(second, first)


@given(COUNTS, COUNTS)
def test_the_further_apart_the_less_by_chance(first, second):
    larger, smaller = max(first, second), min(first, second)
    assert mcnemar(larger + 1, smaller) < mcnemar(larger, smaller) or larger == smaller


def test_known_values():
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)


def test_many_images_are_no_trouble():
    assert mcnemar(500_000, 501_000) == pytest.approx(0.3177, abs=1e-3)  # the normal approximation: z = 999 / sqrt(1,001,000)
    assert mcnemar(0, 5_000) == 0.0


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 3)
