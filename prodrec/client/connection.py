"""What both clients are made of: the options, and the connections to one server."""

import ssl
import threading
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import httpx

from prodrec.client.retries import Retries

H = TypeVar("H", httpx.Client, httpx.AsyncClient)

# An idle connection is kept this long. Source: uvicorn hangs up after 5 s.
KEEP_ALIVE_S = 4.0
_MAX_PORT = 65_535


class Connection(Generic[H]):
    """One server. Connections are kept and used again; no redirect is followed.

    The environment is not read: photos and keys would go through whatever proxy HTTP_PROXY happens to name, where a server is
    mostly within the same network. A proxy and authorities to trust are options.

    Args:
        base_url: `http://127.0.0.1:8000`, or `https://shop.example/prodrec` where it stands below a path.
        api_key: sent with each request; never logged, never shown.
        connect_timeout_s, read_timeout_s, write_timeout_s, pool_timeout_s: of one step: the connection, the wait for a piece of the
            answer, sending a piece, the wait for a free connection. Source: httpx's default of 5 s for the connection; the server
            gives a body and an answer 30 s each; the rest is assumed.
        retries: tries after the first, where another may do better: no connection, a broken one, 503, and 502 and 504 of a proxy.
        backoff_s: the longest wait before the second try; doubles with each, the wait is random below it. Source: assumed.
        longest_wait_s: no wait between tries is longer; a server's longer Retry-After is cut to this. Source: assumed.
        ca_file: PEM file of the only authorities to trust; None: those that certifi lists.
        verify: False trusts any certificate.
        proxy: URL of a proxy; None: there is none.

    Raises:
        ValueError: an option is wrong.
    """

    _http_class: ClassVar[type[Any]]

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        write_timeout_s: float = 30.0,
        pool_timeout_s: float = 60.0,
        retries: int = 3,
        backoff_s: float = 0.5,
        longest_wait_s: float = 10.0,
        ca_file: str | Path | None = None,
        verify: bool = True,
        proxy: str | None = None,
    ) -> None:
        if min(connect_timeout_s, read_timeout_s, write_timeout_s, pool_timeout_s) <= 0 or min(retries, backoff_s, longest_wait_s) < 0:
            raise ValueError("timeouts are above 0 seconds; retries, backoff_s and longest_wait_s are not below 0")
        self.base_url = _checked_url(base_url)
        self._closed = threading.Event()
        self._retries = Retries(retries, backoff_s, longest_wait_s)
        self._timeout = httpx.Timeout(connect=connect_timeout_s, read=read_timeout_s, write=write_timeout_s, pool=pool_timeout_s)
        self._http: H = self._http_class(
            base_url=self.base_url,
            headers={"User-Agent": _user_agent()} | _authorization(api_key),
            limits=httpx.Limits(max_connections=100, keepalive_expiry=KEEP_ALIVE_S),
            # Reading certifi's authorities takes 20 ms, on a busy machine 1 s (measured): not for plain http, which no redirect leads out of.
            verify=_trust(ca_file) if ca_file else verify and (proxy is not None or self.base_url.startswith("https:")),
            proxy=_checked_proxy(proxy),
            trust_env=False,
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"


def _checked_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        # Not the address itself, nor the cause: it may hold a password.
        raise ValueError("base_url is no address of a server; give one such as http://127.0.0.1:8000") from None
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > _MAX_PORT:
        raise ValueError("base_url is no address of a server; give one such as http://127.0.0.1:8000")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("base_url has a user, a query or a fragment; leave them out, and give a key as api_key")
    return str(url).rstrip("/")


def _checked_proxy(proxy: str | None) -> httpx.Proxy | None:
    try:
        return httpx.Proxy(proxy) if proxy else None
    except (httpx.InvalidURL, ValueError):
        # Not the address itself, nor the cause: it may hold a password.
        raise ValueError("proxy is no address of a proxy; give one such as http://proxy.example:3128") from None


def _authorization(api_key: str | None) -> dict[str, str]:
    """Keys come out of files, with a line's end."""
    if api_key is None:
        return {}
    key = api_key.strip()
    if not key or not all("!" <= char <= "~" for char in key):
        raise ValueError("api_key is empty or has characters that no header can hold")
    return {"Authorization": f"Bearer {key}"}


def _trust(ca_file: str | Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"cannot read the certificates of ca_file {ca_file}: {error}; give a PEM file of the authorities to trust") from error


def _user_agent() -> str:
    try:
        return f"prodrec-client/{metadata.version('prodrec')}"
    except metadata.PackageNotFoundError:
        return "prodrec-client"
