"""What kills scoring processes. Imports nothing: its actor would else load torch to count."""

from collections import Counter


class Ledger:
    """What each scoring process is at work on. An actor keeps its id when its process is started again: what it had begun and
    begins once more has killed it."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[str, str]] = Counter()

    def begin(self, actor: str, key: str) -> int:
        """How many processes of this actor have died over it."""
        deaths = self.begun[actor, key]
        self.begun[actor, key] += 1
        return deaths

    def end(self, actor: str, key: str) -> None:
        self.begun.pop((actor, key), None)
