"""What a person should know of a data set before it is trained on: a pure function of its facts, the worst first."""

from collections.abc import Sequence
from itertools import chain

from prodrec.shards.copy_findings import COPY_FINDINGS
from prodrec.shards.facts import Facts
from prodrec.shards.finding import Finding, Severity
from prodrec.shards.image_findings import IMAGE_FINDINGS
from prodrec.shards.label_findings import LABEL_FINDINGS

NOTHING_FOUND = "Nothing stands out: no label, split or image that asks for attention."


def findings(facts: Facts) -> list[Finding]:
    """All that is found, the worst first."""
    found = chain.from_iterable(find(facts) for find in (*LABEL_FINDINGS, *COPY_FINDINGS, *IMAGE_FINDINGS))
    severities = list(Severity)
    return sorted(found, key=lambda one: (severities.index(one.severity), -one.share))


def worst_lines(found: Sequence[Finding], most: int = 3) -> list[str]:
    """For the terminal: the worst findings, a line each."""
    return [f"{one.severity}: {one.line}" for one in found[:most]]
