"""Which URIs may be fetched, and which addresses may be connected to.

Two doors, both shut unless opened: the host's name must be on a list, and every address that the name resolves to must be
public. Names are taken in one spelling only; whatever could be read as an address in another way is refused.
Not covered: who resolves and connects (prodrec.scoring.connections).
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

import httpx

from prodrec.errors import Reject, RejectCode

ANY_PUBLIC = "*"
WEB_PORTS = {"http": 80, "https": 443}
# Of a URI in a reject's detail. Source: assumed.
SHOWN_CHARS = 200

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# Source: RFC 1035 2.3.4; 63 octets a label and 253 characters in all. Underscores occur in real bucket names.
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_NAME_CHARS = 253
# Resolvers read a host that ends like this as an IPv4 address, in whatever base. Source: WHATWG URL, "ends in a number".
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ENTRY = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<below>\.?)(?P<name>[^:\[\]]+))(?::(?P<port>[1-9][0-9]{0,4}))?")

# Also where `ipaddress.is_global` of some Python version lets them through. Source: IANA special-purpose address registries
# (RFC 6890 and its updates), multicast and reserved space, the 6to4 relays of RFC 7526.
_SPECIAL_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    )
]
# All that is handed out for the public internet. Mapped, NAT64, unique local, link-local and multicast addresses lie outside.
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
# Teredo and other protocol assignments, documentation, 6to4, documentation. Source: as _SPECIAL_V4.
_SPECIAL_V6 = [ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


class Target(NamedTuple):
    """A URI that may be asked for: its parts as they are sent. `target` is path and query; str() shows no secrets."""

    scheme: str
    host: str
    port: int
    target: bytes
    netloc: bytes

    def __str__(self) -> str:
        return _shown(self.scheme, self.netloc, self.target)


class Entry(NamedTuple):
    """A line of the list: a host, or `.example.com` for the hosts below it; one port, or None for those of the web."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """Raises: ValueError: it is no host, `.host`, `host:port`, `[IPv6]` or `*`."""
        if text == ANY_PUBLIC:
            return cls(text, None)
        match = _ENTRY.fullmatch(text.lower())
        name = (match["v6"] or match["name"]) if match else ""
        if not match or not _is_plain(name) or ((match["v6"] or match["below"]) and is_address(name) != bool(match["v6"])):
            raise ValueError(f"{text!r} is no entry of a host list; write shop.example, .shop.example, shop.example:8080 or *, an IDN as xn--...")
        return cls((match["below"] or "") + _spelled(name), int(match["port"]) if match["port"] else None)

    def covers(self, host: str, port: int, any_port: bool) -> bool:
        named = host.endswith(self.host) if self.host.startswith(".") else host == self.host
        return named and (port == self.port if self.port else any_port or port in WEB_PORTS.values())


class Web:
    """The part of the web that is open.

    Args:
        schemes: `https`, `http` or both.
        hosts: entries as `Entry.parse` reads them; `*` is every host with public addresses only, on ports 80 and 443.
        allow_private: hosts that an entry names may have addresses that are not public, and any port.
    """

    def __init__(self, schemes: Iterable[str], hosts: Iterable[str], allow_private: bool) -> None:
        self._schemes = tuple(schemes)
        self._entries = [Entry.parse(host) for host in hosts]
        self._allow_private = allow_private

    def target(self, uri: str) -> Target:
        """Takes a URI apart.

        Raises:
            Reject: `not_allowed`: no URI, or one whose scheme, host or port is not open, or that carries a user's name.
        """
        try:
            url = httpx.URL(uri)
            host = _spelled(url.raw_host.decode("ascii"))
        except (httpx.InvalidURL, ValueError) as error:
            raise Reject(RejectCode.NOT_ALLOWED, "no valid URI") from error
        shown = _shown(url.scheme, url.netloc, url.raw_path)
        if url.scheme not in self._schemes:
            raise Reject(RejectCode.NOT_ALLOWED, f"the scheme {url.scheme[:20]!r} is not fetched; allowed: {', '.join(self._schemes)}")
        if url.userinfo:
            raise Reject(RejectCode.NOT_ALLOWED, f"{shown}: a URI with a user's name is not fetched")
        if not _is_plain(host):
            raise Reject(RejectCode.NOT_ALLOWED, f"{shown}: no plain host name or address")
        port = WEB_PORTS[url.scheme] if url.port is None else url.port
        if not 0 < port < 1 << 16 or not self._is_open(host, port):
            raise Reject(RejectCode.NOT_ALLOWED, f"{shown}: the host or port is not on the list of hosts")
        return Target(url.scheme, host, port, url.raw_path, url.netloc)

    def may_connect(self, host: str, port: int, address: str) -> bool:
        """Whether `address`, to which an open host resolved, may be connected to."""
        return is_public(address) or (self._allow_private and self._is_named(host, port))

    def _is_open(self, host: str, port: int) -> bool:
        return self._is_named(host, port) or any(entry.host == ANY_PUBLIC and port in WEB_PORTS.values() for entry in self._entries)

    def _is_named(self, host: str, port: int) -> bool:
        return any(entry.covers(host, port, self._allow_private) for entry in self._entries)


def is_public(address: str) -> bool:
    """Whether an address is global unicast: not private, loopback, link-local, multicast, reserved, or IPv4 within IPv6."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not any(found in network for network in _SPECIAL_V4)
    return found.is_global and found in _UNICAST_V6 and not any(found in network for network in _SPECIAL_V6)


def is_address(host: str) -> bool:
    """Whether a host is an address in its one accepted spelling."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _spelled(host: str) -> str:
    """The one spelling of an address; names stay."""
    return str(ipaddress.ip_address(host)) if is_address(host) else host


def _is_plain(host: str) -> bool:
    """No trailing dot, no escapes, no number that a resolver would read as an address."""
    if is_address(host):
        return True
    return len(host) <= _MAX_NAME_CHARS and _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(host.rpartition(".")[2]) is None


def _shown(scheme: str, netloc: bytes, target: bytes) -> str:
    """Without user and query: signed URLs carry secrets there."""
    return f"{scheme}://{netloc.decode('ascii')}{target.partition(b'?')[0].decode('ascii')}"[:SHOWN_CHARS]
