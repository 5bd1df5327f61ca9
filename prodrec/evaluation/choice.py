"""Which of several classifiers to ship: pure functions of what each got right on val, and of what it costs.

Only val chooses. Whoever took the best of several by test would report a figure that was fitted to test: of ten equal models
on 500 images the best can look 3 points better than it is. Test is therefore reported, and never asked.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prodrec.evaluation.calibration import Bools
from prodrec.evaluation.metrics import Z_95
from prodrec.evaluation.significance import mcnemar

# Differences with a smaller p count as real. Source: convention (Fisher 1925).
SIGNIFICANT_P = 0.05
# Times within this share of each other count as equal: repeated timings on a busy machine differ by about as much.
# Source: assumed; how well times repeat was not measured (docs/log.md 2026-11-25).
SAME_TIME = 0.1
# Networks with as many operations, within this share, cost the same whatever a clock says: of two with one architecture times
# differed by up to 18 % on a busy machine (docs/log.md 2026-11-27). Source: assumed; some labels more change less.
SAME_WORK = 0.02
# A candidate may be this much behind the leader on val, as a share of the images: on few images even large gaps are not
# significant, and nobody would give away 3 points for milliseconds. One image is never more than chance. Source: assumed.
MOST_BEHIND = 0.01

RULE = (
    "The leader is the run with the most val images right. Candidates are the runs that are not significantly worse than the leader on the same "
    f"val images (McNemar's exact test, p above {SIGNIFICANT_P:g}, not corrected: a correction would let worse models in) and at most "
    f"{100 * MOST_BEHIND:g} point (or one image) behind it. Of these the one that is cheapest at inference is recommended (milliseconds an image "
    f"in batches, measured here; times within {SAME_TIME:.0%} count as equal, and so do networks with the same GFLOPs; then the one with more val "
    "images right is taken). Test images choose nothing."
)
PROMOTION_RULE = (
    "A bundle takes the place of the current one if it is significantly better on the same val images (McNemar's exact test, "
    f"p at most {SIGNIFICANT_P:g}), or not significantly worse, at most {100 * MOST_BEHIND:g} point (or one image) behind and at least {SAME_TIME:.0%} "
    "cheaper at inference (networks with the same GFLOPs cost the same); otherwise the current one stays. One that accepts photos without a person "
    "is not replaced by one without thresholds."
)


class Candidate(NamedTuple):
    """A classifier that may be chosen.

    Attributes:
        hits: [N], whether it is right on each val image; the same images for all.
        image_ms: inference, milliseconds an image in batches.
        gflops: of an image.
    """

    name: str
    hits: Bools
    image_ms: float
    gflops: float

    @property
    def right(self) -> int:
        return int(self.hits.sum())

    def works_like(self, other: "Candidate") -> bool:
        """Whether both have as many operations."""
        return abs(self.gflops - other.gflops) <= SAME_WORK * max(self.gflops, other.gflops)


class Pair(NamedTuple):
    """Two classifiers on the same images.

    Attributes:
        difference: accuracy of the first minus that of the second; fractions.
        ci95: its 95 % interval.
        p: McNemar's.
    """

    only_first_right: int
    only_second_right: int
    difference: float
    ci95: tuple[float, float]
    p: float


class Choice(NamedTuple):
    """What the rule says.

    Attributes:
        leader: most val images right; recommended: what to ship; names.
        against_leader: by name, the leader as the first of each pair.
        candidates: names of those that are not worse than the leader, as RULE has it.
    """

    leader: str
    recommended: str
    against_leader: dict[str, Pair]
    candidates: list[str]


class Verdict(NamedTuple):
    """Whether a challenger takes the place of the current bundle, and the figures that decided."""

    promoted: bool
    why: str


def paired(first_N: Bools, second_N: Bools) -> Pair:
    """Compares the hits of two classifiers on the same N >= 1 images.

    Source of the interval: Agresti & Min 2005 (Statistics in Medicine 24, 729-740): half an image is added to each of the four cells.

    Raises:
        ValueError: other numbers of images, or none.
    """
    n = len(first_N)
    if n == 0 or n != len(second_N):
        raise ValueError(f"two classifiers are compared on the same images, not on {n} and {len(second_N)}")
    first, second = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    gap, apart, rows = first - second, first + second + 1, n + 2
    half = Z_95 * float(np.sqrt(apart - gap * gap / rows)) / rows
    return Pair(first, second, gap / n, (max(-1.0, gap / rows - half), min(1.0, gap / rows + half)), mcnemar(first, second))


def choose(candidates: Sequence[Candidate]) -> Choice:
    """Applies RULE to one or more classifiers."""
    leader = min(candidates, key=lambda one: (-one.right, one.image_ms, one.name))
    pairs = {one.name: paired(leader.hits, one.hits) for one in candidates}
    left = [one for one in candidates if not _is_worse(pairs[one.name])]
    fastest = min(left, key=lambda one: one.image_ms)
    cheapest = [one for one in left if one.image_ms <= fastest.image_ms * (1 + SAME_TIME) or one.works_like(fastest)]
    recommended = min(cheapest, key=lambda one: (-one.right, one.image_ms, one.name))
    return Choice(leader.name, recommended.name, pairs, [one.name for one in left])


def beats(challenger: Candidate, current: Candidate) -> Verdict:
    """Applies PROMOTION_RULE; a tie keeps the current one."""
    pair, n = paired(current.hits, challenger.hits), len(challenger.hits)
    cheaper = challenger.image_ms <= current.image_ms * (1 - SAME_TIME) and not challenger.works_like(current)
    figures = (
        f"{challenger.right} against {current.right} of {n} val images right (only {challenger.name} right {pair.only_second_right}, "
        f"only {current.name} {pair.only_first_right}, McNemar p {pair.p:.3g}), {challenger.image_ms:.3g} against {current.image_ms:.3g} ms an image"
        + (" by the same GFLOPs" if challenger.works_like(current) else "")
    )
    if pair.p <= SIGNIFICANT_P:
        better = pair.difference < 0
        return Verdict(better, f"significantly {'better' if better else 'worse'}: {figures}")
    if _is_worse(pair):
        return Verdict(False, f"no significant difference, but more than {100 * MOST_BEHIND:g} point behind: {figures}")
    words = "no significant difference, and cheaper" if cheaper else "no significant difference, and not cheaper: the current one stays"
    return Verdict(cheaper, f"{words}: {figures}")


def _is_worse(pair: Pair) -> bool:
    """Whether the second of a pair is out of the question beside the first, which is as good or better."""
    behind = pair.only_first_right - pair.only_second_right
    return (behind > 1 and pair.difference > MOST_BEHIND) or (pair.difference > 0 and pair.p <= SIGNIFICANT_P)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being several, in the order given.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[number] * (len(p_values) - rank)))
        corrected[number] = highest
    return corrected


def explained(choice: Choice, candidates: Sequence[Candidate]) -> str:
    """Why that one is recommended, for people."""
    by_name = {one.name: one for one in candidates}
    leader, chosen, n = by_name[choice.leader], by_name[choice.recommended], len(by_name[choice.leader].hits)
    led = f"{leader.name} has the most val images right, {leader.right} of {n}"
    if len(candidates) == 1:
        return f"{led}; no other run finished."
    if len(choice.candidates) == 1:
        return f"{led}, and every other run is significantly worse or more than {100 * MOST_BEHIND:g} point behind."
    if chosen is leader:
        return f"{led}, and no candidate is cheaper than it by more than {SAME_TIME:.0%}."
    pair = choice.against_leader[chosen.name]
    return (
        f"{led}. {chosen.name} has {chosen.right} right, which is not significantly fewer (p {pair.p:.2g}; it may give away up to "
        f"{100 * max(0.0, pair.ci95[1]):.1f} points), and takes {chosen.image_ms:.3g} ms an image instead of {leader.image_ms:.3g}."
    )
