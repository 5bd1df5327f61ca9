"""Which URIs may be asked for, in which spelling, and which addresses are public."""

import ipaddress
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from prodrec.errors import Reject, RejectCode
from prodrec.scoring.addresses import Web, is_public
from prodrec.scoring.fetch import Fetcher, FetchLimits

ANYONE = Web(("http", "https"), ("*",), allow_private=False)


def is_open(uri: str, *hosts: str, schemes=("http", "https"), allow_private=False) -> bool:
    try:
        Web(schemes, hosts, allow_private).target(uri)
    except Reject as reject:
        assert reject.code == RejectCode.NOT_ALLOWED
        return False
    return True


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "223.255.255.254", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"])
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
        *("192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808"),
        *("64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::"),
        *("2002:808:808::", "3fff::1", "5f00::1", "4000::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1"),
    ],
)
def test_special_addresses_are_not_public(address):
    assert not is_public(address)


not_global_v4 = st.ip_addresses(v=4).filter(lambda address: not address.is_global)
not_global = not_global_v4 | st.ip_addresses(v=6).filter(lambda address: not address.is_global)


@given(not_global)
def test_what_is_not_global_is_not_public(address):
    assert not is_public(str(address))


def spellings(address: ipaddress.IPv4Address) -> list[str]:
    number, (a, b, c, d) = int(address), address.packed
    hexadecimal = f"{number:08x}"
    v6 = f"{hexadecimal[:4]}:{hexadecimal[4:]}"
    return [
        *(str(address), f"{address}.", f"{number}", f"{number}.", f"0x{number:x}", f"0X{number:X}", f"0{number:o}", f"{number + 2**32}"),
        *(f"{a:#04x}.{b:#04x}.{c:#04x}.{d:#04x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:03}.{b:03}.{c:03}.{d:03}", f"{a:#x}.{number & 0xFFFFFF}"),
        *(f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}", f"{a}.{b}.{number & 0xFFFF:#x}", f"{address}%00", f"%3{a % 10}.{b}.{c}.{d}"),
        *("".join(f"%{ord(digit):02x}" for digit in str(address)), str(address).translate({ord("0") + n: 0xFF10 + n for n in range(10)})),
        *(str(address).replace(".", "。"), str(address).replace(".", "%2e"), f"{address}\\", f"\\{address}", f"{address} ", f"[{address}]"),
        *(f"[::ffff:{address}]", f"[::ffff:{v6}]", f"[::{address}]", f"[64:ff9b::{address}]", f"[2002:{v6}::]", f"[2001:0:{v6}::]", f"[::ffff:{address}%25lo]"),
        *(f"8.8.8.8@{address}", f"shop.example:80@{address}", f"shop.example\\@{address}", f"shop.example%40@{address}"),
    ]


@pytest.fixture(scope="module")
def fetchers() -> Iterator[list[Fetcher]]:
    limits = FetchLimits(schemes=("http",), hosts=("*",)), FetchLimits(schemes=("http",), hosts=("*", "shop.example"), allow_private=True)
    with Fetcher(limits[0]) as strict, Fetcher(limits[1]) as named:
        yield [strict, named]


@given(address=not_global_v4)
@example(address=ipaddress.IPv4Address("127.0.0.1"))
@example(address=ipaddress.IPv4Address("169.254.169.254"))
def test_no_spelling_of_a_special_address_gets_around_the_rules(fetchers, address):
    """Through the whole fetcher, with the machine's own resolver, which reads decimal, octal, hexadecimal and short forms."""
    for images in fetchers:
        for spelling in spellings(address):
            with pytest.raises(Reject) as raised:
                images.fetch(f"http://{spelling}/x.jpg")
            assert raised.value.code == RejectCode.NOT_ALLOWED, spelling


@given(not_global)
def test_special_addresses_behind_a_name_or_in_brackets_are_refused(address):
    def resolve(host, port, **_):
        return [(None, None, 0, "", (str(address), port))]

    with Fetcher(FetchLimits(hosts=("*",)), resolve) as images:
        for uri in ("https://shop.example/x.jpg", f"https://[{address}]/x.jpg" if address.version == 6 else f"https://{address}/x.jpg"):
            with pytest.raises(Reject, match="not_allowed"):
                images.fetch(uri)


def test_nothing_is_open_by_default():
    with Fetcher(FetchLimits()) as images, pytest.raises(Reject, match="not_allowed"):
        images.fetch("https://shop.example/a.jpg")


@pytest.mark.parametrize(
    "uri", ["", "a.jpg", "/etc/passwd", "file:///etc/passwd", "ftp://shop.example/", "s3://bucket/a", "data:image/png;base64,AA", "//shop.example/"]
)
def test_only_listed_schemes(uri):
    assert not is_open(uri, "*")
    assert not is_open("http://shop.example/", "*", schemes=("https",))
    assert is_open("HTTPS://shop.example/", "*", schemes=("https",))


@pytest.mark.parametrize(
    ("entry", "opened", "closed"),
    [
        (
            "shop.example",
            ["shop.example", "SHOP.example", "shop.example:80"],
            ["a.shop.example", "xshop.example", "shop.example.test", "shop.example:81"],
        ),
        (".shop.example", ["a.shop.example", "b.a.shop.example"], ["shop.example", "ashop.example", ".shop.example", "a..shop.example"]),
        ("shop.example:8443", ["shop.example:8443"], ["shop.example", "shop.example:8444", "shop.example:443"]),
        ("SHOP.Example", ["shop.example"], ["shop.test"]),
        ("xn--bcher-kva.example", ["bücher.example", "xn--bcher-kva.example"], ["bucher.example"]),
        ("8.8.8.8", ["8.8.8.8"], ["8.8.4.4", "134744072"]),
        ("[2606:4700:0::1111]:443", ["[2606:4700::1111]", "[2606:4700:0:0::1111]"], ["[2606:4700::1111]:80", "[2606:4700::1112]"]),
        ("*", ["shop.example", "a_b.example", "localhost", "8.8.8.8"], ["shop.example:8080", "shop.example:0", "shop.example:65536"]),
        ("*", ["shop.example:80"], ["shop.example:-1", "shop.example:https", "", "-.example", "a b.example", "shop.example%2f.test"]),
    ],
)
def test_entries_of_the_list(entry, opened, closed):
    assert [host for host in opened if not is_open(f"https://{host}/a.jpg", entry)] == []
    assert [host for host in closed if is_open(f"https://{host}/a.jpg", entry)] == []


def test_private_hosts_are_those_that_are_named():
    web = Web(("http",), ("*", "intranet.test", "cdn.test:81"), allow_private=True)
    assert web.may_connect("intranet.test", 8080, "10.0.0.1")
    assert web.may_connect("cdn.test", 81, "10.0.0.1")
    assert not web.may_connect("other.test", 80, "10.0.0.1")
    assert web.may_connect("other.test", 80, "8.8.8.8")
    assert is_open("http://intranet.test:8080/", "*", "intranet.test", allow_private=True)
    assert not is_open("http://other.test:8080/", "*", "intranet.test", allow_private=True)
    assert not Web(("http",), ("intranet.test",), allow_private=False).may_connect("intranet.test", 80, "10.0.0.1")


@pytest.mark.parametrize(
    "entry",
    [
        *("", ".", "..", "*.shop.example", "*:80", ".*", "https://shop.example", "shop.example/a", "shop.example:0", "shop.example:x", "a b", "a@b"),
        *("127.1", ".0.1", "::1", "[shop]", "[::1", ".127.0.0.1", "2130706433", "bücher.example"),
    ],
)
def test_entries_that_mean_nothing_are_told(entry):
    with pytest.raises(ValidationError, match="is no entry of a host list"):
        FetchLimits(hosts=(entry,))


def test_user_names_are_refused_and_not_shown():
    with pytest.raises(Reject) as raised:
        ANYONE.target("https://me:s3cret@shop.example/a.jpg?key=s3cret")
    assert raised.value.detail == "https://shop.example/a.jpg: a URI with a user's name is not fetched"


def test_a_target_shows_no_query_and_stays_short():
    assert str(ANYONE.target("https://Shop.example/a%20b.jpg?key=s3cret#s3cret")) == "https://shop.example/a%20b.jpg"
    assert len(str(ANYONE.target("https://shop.example/" + "a" * 5000))) == 200
