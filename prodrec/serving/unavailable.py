"""Why a server cannot answer just now. Needs no torch: the processes of bulk runs do without."""


class Busy(Exception):
    """All places are taken, or what holds the bundles is being started again: try again in a moment.

    Args:
        detail: for the caller.
        retry_after_s: when to come again; None: as the server's settings say.
    """

    def __init__(self, detail: str = "all places are taken", retry_after_s: int | None = None) -> None:
        super().__init__(detail, retry_after_s)
        self.detail, self.retry_after_s = detail, retry_after_s


class NotReady(Exception):
    """No bundle is loaded yet."""
