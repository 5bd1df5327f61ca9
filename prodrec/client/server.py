"""The calls about the server itself. Each is written once, as a generator of requests; `Client` and `AsyncClient` run it."""

from prodrec.client.answers import ServedBundles
from prodrec.client.errors import Busy, GatewayFault, Refused, TimedOut, Unreachable
from prodrec.client.exchange import Request, Steps, query
from prodrec.client.looks import Looks

# Between two looks. Source: assumed; bundles load in seconds.
POLL_S = 0.5


def bundle(*, labels: bool = False) -> Steps[ServedBundles]:
    """What the server scores with; with `labels` their names instead of their counts."""
    reply = yield Request("GET", "/v1/bundle", query(labels="true" if labels else None))
    return reply.parsed(ServedBundles)


def ready() -> Steps[bool]:
    """Whether the server can score now; looks once.

    Raises:
        ClientError: it cannot be asked.
    """
    try:
        yield Request("GET", "/readyz", repeat="never")
    except (Busy, GatewayFault):
        return False
    return True


def wait_ready(timeout_s: float, poll_s: float = POLL_S) -> Steps[None]:
    """Waits until the server can score.

    Args:
        timeout_s, poll_s: seconds.

    Raises:
        TimedOut: it cannot yet; the message says what the last look found.
        Untrusted, BadAnswer: it never will.
    """
    looks, pause_s = Looks(timeout_s), 0.0
    while True:
        try:
            yield looks.next("/readyz", pause_s)
            return
        # All refusals: a proxy in front of a server that starts may say 404 as well as 502.
        except (Unreachable, TimedOut, Refused) as error:
            latest = str(error)
        pause_s = poll_s
        looks.check(f"the server is not ready after {timeout_s:g} s: {latest}")
