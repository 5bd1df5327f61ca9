"""Whether two classifiers differ on the same images, or their figures by chance alone."""


def mcnemar(only_first_right: int, only_second_right: int) -> float:
    """McNemar's exact test, two-sided: the probability of a split at least this uneven if both were equally good; 1 where they never differ.

    Only images on which exactly one of the two is right tell them apart. If the two are equally good, each of these n falls to
    either side like a fair coin, so the smaller count k is binomial:  p = min(1, 2 * sum_{i<=k} C(n, i) / 2^n).

    Source: McNemar 1947 (Psychometrika 12, 153-157), in the exact form; Dietterich 1998 (Neural Computation 10, 1895-1923)
    recommends it for classifiers that are trained once.

    Raises:
        ValueError: a negative count.
    """
    if min(only_first_right, only_second_right) < 0:
        raise ValueError(f"counts of images cannot be negative: {only_first_right}, {only_second_right}")
    n, fewer = only_first_right + only_second_right, min(only_first_right, only_second_right)
    term = tail = 1
    for i in range(1, fewer + 1):
        term = term * (n - i + 1) // i
        tail += term
    # Integers of any size divide exactly, where floats of 2^n would overflow.
    return min(1.0, 2 * tail / 2**n)
