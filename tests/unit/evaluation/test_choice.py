"""Which run to ship: by val, by what it costs, and never by test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.evaluation.choice import SAME_TIME, SIGNIFICANT_P, Candidate, beats, choose, holm, paired
from prodrec.evaluation.significance import mcnemar


def hits(right, n=100, start=0):
    found = np.zeros(n, bool)
    found[(start + np.arange(right)) % n] = True
    return found


counts = st.integers(0, 60)


@given(counts, counts)
def test_mcnemar_is_the_two_sided_binomial_and_has_no_favourite(first, second):
    p = mcnemar(first, second)
    assert p == mcnemar(second, first)
    assert 0 < p <= 1
    rng = np.random.default_rng([first, second])
    coins = rng.binomial(first + second, 0.5, 4_000)
    uneven = np.abs(2 * coins - first - second) >= abs(first - second)
    assert p == pytest.approx(uneven.mean(), abs=0.035)


def test_mcnemar_on_published_and_on_large_counts():
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
    assert mcnemar(9_000, 9_700) < 1e-6
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(0, 2**32))
def test_a_pair_is_the_mirror_of_its_reverse_and_its_interval_holds_the_difference(values, seed):
    first = np.array(values)
    second = np.random.default_rng(seed).permutation(first) if seed % 2 else ~first
    there, back = paired(first, second), paired(second, first)
    assert there.difference == pytest.approx(-back.difference)
    assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))
    assert there.p == back.p
    assert there.ci95[0] - 1 / len(first) <= there.difference <= there.ci95[1] + 1 / len(first)


def test_the_interval_covers_what_it_promises():
    rng = np.random.default_rng(3)
    intervals = [paired(rng.random(300) < 0.8, rng.random(300) < 0.75).ci95 for _ in range(1000)]
    assert 0.93 < np.mean([low <= 0.05 <= high for low, high in intervals]) < 0.975


def candidate(name, right, ms, gflops=None):
    """Of which the work is told by the time, where it is not given."""
    return Candidate(name, right, ms, ms if gflops is None else gflops)


def test_pairs_need_the_same_images():
    with pytest.raises(ValueError, match="same images"):
        paired(hits(1, 10), hits(1, 11))
    with pytest.raises(ValueError, match="same images"):
        paired(hits(0, 0), hits(0, 0))


def test_the_cheapest_of_those_that_are_not_worse_is_recommended():
    choice = choose([candidate("large", hits(80), 10.0), candidate("small", hits(79), 2.0), candidate("poor", hits(40), 0.1)])
    assert (choice.leader, choice.recommended) == ("large", "small")
    assert choice.candidates == ["large", "small"]
    assert choice.against_leader["poor"].p <= SIGNIFICANT_P


def test_a_gap_that_few_images_cannot_show_to_be_real_is_not_given_away_for_milliseconds():
    candidates = [candidate("large", hits(80), 10.0), candidate("small", hits(77), 2.0)]
    assert paired(candidates[0].hits, candidates[1].hits).p > SIGNIFICANT_P
    assert choose(candidates).recommended == "large"
    assert not beats(candidates[1], candidates[0]).promoted


def test_equal_times_leave_it_to_accuracy():
    choice = choose([candidate("a", hits(79), 1.0), candidate("b", hits(80), 1.0 + 0.9 * SAME_TIME)])
    assert choice.recommended == "b"
    assert choose([candidate("a", hits(79), 1.0), candidate("b", hits(80), 1.0 + 1.1 * SAME_TIME)]).recommended == "a"


runs = st.lists(st.tuples(st.integers(0, 2**16 - 1), st.floats(0.1, 100)), min_size=1, max_size=6)


@given(runs, st.randoms(use_true_random=False))
def test_what_is_chosen_does_not_depend_on_the_order_and_is_a_candidate(found, random):
    candidates = [candidate(f"run{i}", np.array([bits >> b & 1 for b in range(16)], bool), ms) for i, (bits, ms) in enumerate(found)]
    shuffled = random.sample(candidates, len(candidates))
    choice = choose(candidates)
    assert choose(shuffled)[:2] == choice[:2]
    by_name = {one.name: one for one in candidates}
    assert choice.recommended in choice.candidates
    assert by_name[choice.leader].right == max(one.right for one in candidates)
    assert all(by_name[choice.recommended].image_ms <= (1 + SAME_TIME) * by_name[name].image_ms for name in choice.candidates)


def test_a_tie_keeps_the_current_bundle():
    same = candidate("new", hits(80), 5.0)
    assert not beats(same, same._replace(name="old")).promoted
    assert not beats(candidate("new", hits(82), 5.0), candidate("old", hits(80), 5.0)).promoted, "two images more may be chance"
    assert beats(candidate("new", hits(90), 9.0), candidate("old", hits(70), 1.0)).promoted
    assert beats(candidate("new", hits(79), 4.0), candidate("old", hits(80), 5.0)).promoted, "as good and cheaper"
    verdict = beats(candidate("new", hits(60), 0.1), candidate("old", hits(80), 5.0))
    assert not verdict.promoted, "cheaper, but worse"
    assert "60 against 80 of 100" in verdict.why


def test_the_same_work_costs_the_same_whatever_the_clock_says():
    assert not beats(candidate("new", hits(80), 1.8, 0.5), candidate("old", hits(80), 2.3, 0.501)).promoted
    assert beats(candidate("new", hits(80), 1.8, 0.5), candidate("old", hits(80), 2.3, 0.6)).promoted
    assert choose([candidate("a", hits(80), 2.3, 0.5), candidate("b", hits(79), 1.8, 0.501)]).recommended == "a"


def test_one_image_behind_is_chance_however_few_there_are():
    large, small = candidate("large", hits(24, 60), 10.0), candidate("small", hits(23, 60), 2.0)
    assert choose([large, small]).recommended == "small"
    assert choose([large, candidate("small", hits(22, 60), 2.0)]).recommended == "large"


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_corrects_upwards_keeps_the_order_and_never_more_than_bonferroni(p_values):
    corrected = holm(p_values)
    for raw, p in zip(p_values, corrected, strict=True):
        assert raw <= p <= min(1.0, raw * len(p_values)) or p == max(corrected)
    assert [c for _, c in sorted(zip(p_values, corrected, strict=True))] == sorted(corrected)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
