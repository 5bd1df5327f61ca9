"""Connections go to checked addresses, and TLS checks the name."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from shop import IMAGE, Shop, answering, fetcher, refusal, running

from prodrec.errors import ConfigError, RejectCode


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_address(shop):
    """The second answer is that of an attacker who rebinds the name."""
    answers, asked = cycle(["127.0.0.1", "127.0.0.99"]), []

    def rebinding(host: str, port: int, **options):
        asked.append(host)
        return answering(next(answers))(host, port, **options)

    with fetcher(hosts=("shop.test",), resolve=rebinding) as images:
        assert [images.fetch(shop.uri(host="shop.test")) for _ in range(3)] == [IMAGE] * 3
    assert asked == ["shop.test"]
    assert shop.asked[0][1]["host"] == f"shop.test:{shop.server_port}"


def test_every_try_checks_the_addresses_anew():
    answers = iter([socket.gaierror(socket.EAI_AGAIN, "later"), "127.0.0.1"])

    def resolve(host: str, port: int, **options):
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answering(answer)(host, port, **options)

    assert refusal("http://shop.test/ok.jpg", hosts=("*",), resolve=resolve).code == RejectCode.NOT_ALLOWED
    assert next(answers, None) is None


@pytest.mark.parametrize("hosts", [("*",), ("shop.test",)])
@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.215.14", "127.0.0.1"), ("169.254.169.254",), ("::1",), ("::ffff:127.0.0.1",)])
def test_one_private_address_condemns_a_name(shop, hosts, addresses):
    opened = [f"{host}:{shop.server_port}" if host != "*" else host for host in hosts]
    uri = "http://shop.test/ok.jpg" if hosts == ("*",) else shop.uri(host="shop.test")
    found = refusal(uri, hosts=opened, allow_private=hosts == ("*",), resolve=answering(*addresses))
    assert (found.code, found.detail) == (RejectCode.NOT_ALLOWED, f"{uri}: the host has an address that is not public")
    assert shop.connections == 0


def test_the_next_address_is_tried_where_one_does_not_answer(shop):
    with fetcher(hosts=("shop.test",), resolve=answering("127.0.0.99", "127.0.0.1")) as images:
        assert images.fetch(shop.uri(host="shop.test")) == IMAGE


def test_an_ipv6_host_keeps_its_brackets(shop):
    with fetcher(hosts=("[::1]",), resolve=answering("127.0.0.1")) as images:
        assert images.fetch(shop.uri(host="[::1]")) == IMAGE
    assert shop.asked[0][1]["host"] == f"[::1]:{shop.server_port}"


def test_names_that_do_not_exist_fail_at_once_and_name_servers_that_do_not_answer_are_tried_again():
    for errno, tries in ((socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 3)):
        asked = []

        def resolve(*_, errno=errno, asked=asked, **__):
            asked.append(1)
            raise socket.gaierror(errno, "no")

        assert refusal("https://no.example/", hosts=("*",), resolve=resolve, retries=2).code == RejectCode.FETCH_FAILED
        assert len(asked) == tries


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    """A folder with ca.pem, and shop.pem with the key and the certificate of shop.test."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not here")
    folder = tmp_path_factory.mktemp("authority")

    def make(*arguments: str) -> None:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        subprocess.run([openssl, "req", "-x509", *key, *arguments], cwd=folder, check=True, capture_output=True)

    make("-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem", "-addext", "keyUsage=critical,keyCertSign")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:shop.test"]
    make("-subj", "/CN=shop.test", "-keyout", "shop.key", "-out", "shop.crt", *signed)
    (folder / "shop.pem").write_text((folder / "shop.key").read_text() + (folder / "shop.crt").read_text())
    return folder


@pytest.fixture
def tls_shop(authority) -> Iterator[tuple[Shop, list[str]]]:
    """A server under TLS and the names that clients greeted it with."""
    context, greeted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(authority / "shop.pem")
    context.sni_callback = lambda _socket, name, _context: greeted.append(name)
    shop = Shop()
    shop.socket = context.wrap_socket(shop.socket, server_side=True)
    with running(shop):
        yield shop, greeted


def test_certificates_are_checked_by_name_while_the_address_is_pinned(tls_shop, authority):
    shop, greeted = tls_shop
    trusting = {"hosts": (".test", "127.0.0.1"), "ca_file": str(authority / "ca.pem"), "resolve": answering("127.0.0.1")}
    with fetcher(**trusting) as images:
        assert [images.fetch(shop.uri(host="shop.test", scheme="https")) for _ in range(2)] == [IMAGE] * 2
    assert greeted == ["shop.test"]
    for host in ("other.test", "127.0.0.1"):
        found = refusal(shop.uri(host=host, scheme="https"), **trusting)
        assert (found.code, "bad certificate" in found.detail) == (RejectCode.FETCH_FAILED, True)
    assert len(shop.asked) == 2
    assert "bad certificate" in refusal(shop.uri(host="shop.test", scheme="https"), **trusting | {"ca_file": None}).detail


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_told(tmp_path, content):
    if content:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        fetcher(ca_file=str(tmp_path / "ca.pem"))
