"""What a person should know of a data set before it is trained on: a pure function of its facts, the worst first."""

from collections.abc import Sequence

from prodrec.shards.copy_findings import COPY_FINDINGS
from prodrec.shards.facts import Facts
from prodrec.shards.finding import Finding, Severity
from prodrec.shards.image_findings import IMAGE_FINDINGS
from prodrec.shards.label_findings import LABEL_FINDINGS

_WARNING = "WARNING: "
NOTHING_FOUND = "Nothing stands out: no label, split or image that asks for attention."


def findings(facts: Facts, told: Sequence[str] = ()) -> list[Finding]:
    """All that is found, the worst first.

    Args:
        told: lines on how the source was read; those that begin with WARNING are findings too.
    """
    found = [one for find in (*LABEL_FINDINGS, *COPY_FINDINGS, *IMAGE_FINDINGS) for one in find(facts)]
    if not any(one.code == "one_label" for one in found):  # which the source warns of in its own words
        found += [_doubt(line.removeprefix(_WARNING)) for line in told if line.startswith(_WARNING)]
    severities = list(Severity)
    return sorted(found, key=lambda one: (severities.index(one.severity), -one.share))


def worst_lines(found: Sequence[Finding], most: int = 3) -> list[str]:
    """For the terminal: the worst findings, a line each."""
    return [f"{one.severity}: {one.line}" for one in found[:most]]


def _doubt(line: str) -> Finding:
    """What a source may have been taken for wrongly: most of its images are learned as something else then."""
    text, _, advice = line.partition("; ")
    return Finding("doubtful_layout", Severity.SERIOUS, f"{text}.", f"{advice[:1].upper()}{advice[1:]}." if advice else "Look whether that is meant.", 1.0)
