"""Whether one classifier is better than another, judged on the same images."""

import math


def mcnemar(only_first_right: int, only_second_right: int) -> float:
    """Two-sided p-value of McNemar's exact test: how often two equally good classifiers would differ at least so much by chance.

    Images on which both are right, or both are wrong, tell nothing; of n others each classifier would win each with probability
    one half, so that the smaller count is binomial:

        p = min(1, 2 * sum_{i <= min(a, b)} C(n, i) / 2^n)

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages"; exact
    form: Dietterich 1998, "Approximate statistical tests for comparing supervised classification learning algorithms".

    Args:
        only_first_right, only_second_right: images that one gets right and the other wrong.

    Returns:
        In (0, 1]; 1 where the counts are equal. Under 1e-308 it is 0.

    Raises:
        ValueError: a negative count.
    """
    if only_first_right < 0 or only_second_right < 0:
        raise ValueError(f"counts {only_first_right} and {only_second_right}: neither may be negative")
    n, fewer = only_first_right + only_second_right, min(only_first_right, only_second_right)
    if 2 * fewer == n:
        return 1.0
    all_ways = math.lgamma(n + 1) - n * math.log(2)
    return min(1.0, 2 * math.fsum(math.exp(all_ways - math.lgamma(i + 1) - math.lgamma(n - i + 1)) for i in range(fewer + 1)))
