"""What a call can end with; drawn in `prodrec.client`. What httpx raises is mapped here, and nowhere else."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from prodrec.client.answers import Problem


class ClientError(Exception):
    """Any failure of a call; itself only where none of its kinds fits."""


class Unreachable(ClientError):
    """No connection, or it broke.

    Attributes:
        may_have_arrived: False where the server cannot have seen the request.
    """

    def __init__(self, message: str, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class Untrusted(ClientError):
    """The server's certificate is not one to trust."""


class TimedOut(ClientError):
    """One of the client's time limits passed; the server may have done what it was asked to."""


class BadAnswer(ClientError):
    """What came is no answer of prodrec: another server, a redirect, a broken document."""


class Refused(ClientError):
    """The server answered with a problem.

    Attributes:
        problem: all of it; its members `status`, `code`, `detail` and `hint` are attributes of the error too.
        request_id: under which the server's log has it; None: the answer came from something in between.
        retry_after_s: that the server asks for, seconds; None: it does not say.
    """

    def __init__(self, problem: Problem, request_id: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(problem)
        self.problem, self.request_id, self.retry_after_s = problem, request_id, retry_after_s
        self.status, self.code, self.detail, self.hint = problem.status, problem.code, problem.detail, problem.hint

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return " ".join(f"{self.status} {self.code}: {self.detail or self.problem.title}{hint}{request}".split())


class BadRequest(Refused):
    pass


class KeyNeeded(Refused):
    pass


class NotAllowed(Refused):
    pass


class NotFound(Refused):
    pass


class BadImage(Refused):
    pass


class Busy(Refused):
    pass


class ServerFault(Refused):
    pass


class GatewayFault(ServerFault):
    pass


_BY_STATUS: dict[int, type[Refused]] = {
    400: BadRequest,
    401: KeyNeeded,
    403: NotAllowed,
    404: NotFound,
    413: BadImage,
    415: BadImage,
    422: BadImage,
    429: Busy,
    503: Busy,
}
# 413 and 422 where no image is at fault.
_NO_IMAGE = frozenset({"too_many_files", "no_such_label", "cannot_explain", "bad_manifest"})
# Answers of what stands before a server that is away for a moment: of proxies by RFC 9110 15.6.3 and 15.6.5; Ray Serve's says 404
# while the application starts or ends, and 500 where a process died.
_GATEWAY = frozenset({404, 500, 502, 504})


def refusal(problem: Problem, is_ours: bool, request_id: str | None = None, retry_after_s: float | None = None) -> Refused:
    """The error of a problem.

    Args:
        is_ours: prodrec wrote the problem; not something in between.
    """
    status = problem.status
    kind = BadRequest if problem.code in _NO_IMAGE else _BY_STATUS.get(status, ServerFault if status >= 500 else Refused)
    return (GatewayFault if status in _GATEWAY and not is_ours else kind)(problem, request_id, retry_after_s)


@contextmanager
def mapped(url: str) -> Iterator[None]:
    """Turns what httpx raises within into a ClientError."""
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, httpx.CookieConflict) as error:
        raise as_client_error(error, url) from error


def as_client_error(error: Exception, url: str) -> ClientError:
    """The ClientError of an exception of httpx."""
    reason = " ".join(str(error).split()) or type(error).__name__
    match error:
        case httpx.ConnectError() | httpx.ProxyError() if _of_certificate(error):
            return Untrusted(f"{url}: {reason}; give the authority that signed it as ca_file")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return Unreachable(f"{url}: no connection: {reason}", may_have_arrived=False)
        case httpx.TimeoutException():
            return TimedOut(f"{url}: {type(error).__name__} after its limit passed; see the timeouts of the client")
        case httpx.NetworkError():
            # An AsyncClient does not get to see what a server answered that stopped reading the body (anyio pauses reading meanwhile).
            return Unreachable(f"{url}: the connection broke: {reason}; a server that refuses a large body unread hangs up like this too")
        case httpx.RemoteProtocolError():
            return Unreachable(f"{url}: the connection broke: {reason}")
        case httpx.DecodingError() | httpx.TooManyRedirects() | httpx.HTTPStatusError():
            return BadAnswer(f"{url}: {reason}")
        case _:
            return ClientError(f"{url}: {reason}")


def _of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def as_problem(error: ClientError) -> Problem:
    """What ended a request, beside answers that came before it. Status 0: there was no answer."""
    if isinstance(error, Refused):
        return error.problem
    return Problem(0, "no_answer", str(error), "send it again")
