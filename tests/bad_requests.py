"""Requests whose form or framing is damaged or hostile, the same at every run."""

import gzip
from collections.abc import Iterator
from typing import NamedTuple

from made import photo

PHOTO = photo(2, 900)
BOUNDARY = "b0undary"
# What may be said of a form.
FORM = frozenset({200, 400, 413, 415, 422})
READ = frozenset({200})
UNREAD = frozenset({400})


class BadForm(NamedTuple):
    name: str
    content_type: str
    body: bytes
    statuses: frozenset[int] = FORM


class BadStream(NamedTuple):
    """Bytes as they are put on the wire. Status 0: no answer; then the sending side is closed behind them."""

    name: str
    sent: bytes
    statuses: frozenset[int]

    @property
    def breaks_off(self) -> bool:
        return 0 in self.statuses


def part(data: bytes, disposition: bytes = b'form-data; name="file"; filename="1.jpg"', more: bytes = b"") -> bytes:
    return b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + data + b"\r\n"


def closed(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def all_forms() -> list[BadForm]:
    return [*_framed(), *_named(), *_typed(), *_grown()]


def _form(name: str, body: bytes, statuses: frozenset[int] = FORM, options: str = f"; boundary={BOUNDARY}") -> BadForm:
    return BadForm(name, "multipart/form-data" + options, body, statuses)


def _framed() -> Iterator[BadForm]:
    good = closed(part(PHOTO))
    yield _form("whole", good, READ)
    yield _form("no boundary", good, UNREAD, "")
    yield _form("empty boundary", good, UNREAD, "; boundary=")
    yield _form("another boundary", good, UNREAD, "; boundary=other")
    yield _form("boundary of 10,000 letters", good, UNREAD, "; boundary=" + "b" * 10_000)
    yield _form("boundary with quotes", good, READ, f'; boundary="{BOUNDARY}"')
    yield _form("boundary that is not ASCII", good, UNREAD, "; boundary=\xfc\xff")
    yield _form("two boundaries", good, FORM, f"; boundary={BOUNDARY}; boundary=other")
    yield _form("nothing", b"", UNREAD)
    yield _form("no part", closed(), UNREAD)
    yield _form("not closed", part(PHOTO), UNREAD)
    yield _form("random bytes", bytes(range(256)) * 20, UNREAD)
    yield _form("the photo alone", PHOTO, UNREAD)
    yield _form("text before", b"preamble\r\n" + good)
    yield _form("text behind", good + b"epilogue" * 100)
    yield _form("line ends of one sign", good.replace(b"\r\n", b"\n"))
    yield _form("boundary within the part", closed(part(b"--" + BOUNDARY.encode() + b"\r\n" + PHOTO)))
    yield _form("boundary's beginnings without end", closed(part(b"\r\n--b0undar" * 20_000)))
    yield _form("line ends without end", b"\r\n" * 200_000 + good)
    for place in (1, 10, 30, 60, 90, 100, len(good) - 20, len(good) - 3, len(good) - 1):
        yield _form(f"cut at {place}", good[:place], FORM if place == len(good) - 1 else UNREAD)  # the last line end may lack
    yield _form("a form within", closed(part(good, more=f"Content-Type: multipart/mixed; boundary={BOUNDARY}2\r\n".encode())))
    yield _form("two files", closed(part(PHOTO), part(PHOTO)), frozenset({413}))
    yield _form("a field, no file", closed(part(PHOTO, b'form-data; name="file"')), UNREAD)
    yield _form("a file of no bytes", closed(part(b"")), frozenset({422}))
    yield _form("a field in which no file was chosen", closed(part(b"", b'form-data; name="file"; filename=""')), UNREAD)
    yield _form("a file, and a field in which none was chosen", closed(part(PHOTO), part(b"", b'form-data; name="other"; filename=""')), FORM)
    yield _form("a file and a field", closed(part(PHOTO), part(b"7", b'form-data; name="listing_id"')), READ)


def _named() -> Iterator[BadForm]:
    names = ["../../../../etc/passwd", "..\\..\\boot.ini", "C:\\secret.jpg", "a\x00.jpg", "\u202egpj.exe", "ünï" * 300, "😀.jpg", "", " ", ".", "x" * 60_000]
    names += ["<script>alert(1)</script>", "'; DROP TABLE listings; --", "%00%0d%0aSet-Cookie: a=b", "%s%n{0}${jndi:ldap://a}", "con.jpg", "/dev/stdin"]
    for name in names:
        shown = name if len(name) < 40 else f"{name[:8]} of {len(name)}"
        yield _form(f"file's name {shown!a}", closed(part(PHOTO, b'form-data; name="file"; filename="%b"' % name.encode())))
    yield _form("line end in the file's name", closed(part(PHOTO, b'form-data; name="file"; filename="a\r\nX-Evil: 1"')))
    yield _form("file's name that is no UTF-8", closed(part(PHOTO, b'form-data; name="file"; filename="\xff\xfe\x80"')), READ)
    yield _form("file's name in RFC 5987", closed(part(PHOTO, b"form-data; name=file; filename*=UTF-8''%e2%82%ac.jpg")))
    yield _form("file's name in a charset that is none", closed(part(PHOTO, b"form-data; name=file; filename*=evil''%e2%82.jpg")))
    yield _form("file's name continued without end", closed(part(PHOTO, b"form-data; name=file; " + b"".join(b"filename*%d=a; " % n for n in range(300)))))
    yield _form("no name", closed(part(PHOTO, b'form-data; filename="1.jpg"')), UNREAD)
    yield _form("no disposition", closed(b"--" + BOUNDARY.encode() + b"\r\n\r\n" + PHOTO + b"\r\n"), UNREAD)
    yield _form("disposition of garbage", closed(part(PHOTO, b'\xff;;;="""')), UNREAD)
    yield _form("a hundred quotes", closed(part(PHOTO, b'form-data; name="' + b'\\"' * 100)))
    yield _form("a field's name of Python's", closed(part(PHOTO, b'form-data; name="__proto__"; filename="a"')))


def _typed() -> Iterator[BadForm]:
    for kind in ("image/png", "text/html", "application/octet-stream", "", ";;;", "image/jpeg; charset=\xff", "application/x-www-form-urlencoded", "a" * 5_000):
        yield BadForm(f"photo as {kind[:40]!a}", kind, PHOTO, READ)
    yield BadForm("photo as multipart/mixed", f"multipart/mixed; boundary={BOUNDARY}", closed(part(PHOTO)), frozenset({422}))
    for body in (b"", b"{", b"[]", b"null", b"7", b'"x"', b"[" * 15_000, b'{"a":' * 3_000, b"\xff\xfe", b"9" * 10_000, b"NaN", b'{"image_url": 7}', b"{}"):
        yield BadForm(f"JSON {body[:20]!a} of {len(body)} bytes", "application/json", body, UNREAD)
    yield BadForm("JSON too large", "application/json", b'{"image_url": "' + b"a" * 20_000 + b'"}', frozenset({413}))
    for url in ("https://example.com/1.jpg", "file:///etc/passwd", "http://169.254.169.254/latest", "gopher://a", "", "\\ud800", "http://[::1"):
        yield BadForm(f"image_url {url!a}", "application/json", f'{{"image_url": "{url}"}}'.encode(), frozenset({403}))
    for charset in ("latin-1", "utf-16", "utf-7", "punycode", "idna", "rot13", "zlib", "evil", "unicode_escape", "undefined", "a" * 900):
        yield _form(f"charset {charset[:20]!a}", closed(part(PHOTO)), FORM, f"; boundary={BOUNDARY}; charset={charset}")
    for charset in ("UTF-8", "utf8", "ISO-8859-1"):
        yield _form(f"charset {charset}", closed(part(PHOTO)), READ, f"; boundary={BOUNDARY}; charset={charset}")
    # Python decodes punycode in quadratic time: minutes for this one.
    slow = closed(part(b"a" * 500_000 + b"-" + b"a" * 500_000, b'form-data; name="x"'), part(PHOTO))
    for charset in ("punycode", "PUNYCODE", "puny code", '"punycode"', "idna"):
        yield _form(f"charset {charset} of a megabyte", slow, FORM, f"; boundary={BOUNDARY}; charset={charset}")
    yield _form("charset in RFC 2231", slow, FORM, f"; boundary={BOUNDARY}; charset*=utf-8''punycode")
    yield _form("charset in pieces", slow, FORM, f"; boundary={BOUNDARY}; charset*0=puny; charset*1=code")


def _grown() -> Iterator[BadForm]:
    yield _form("10,000 files", closed(part(b"x") * 10_000), frozenset({413}))
    yield _form("10,000 fields", closed(part(b"x", b'form-data; name="x"') * 10_000), UNREAD)
    yield _form("a field of 2 MB", closed(part(b"x" * 2_000_000, b'form-data; name="x"')), UNREAD)
    for size in (5_000, 50_000, 1_000_000):
        yield _form(f"a part's header of {size} bytes", closed(part(PHOTO, more=b"X-Long: " + b"x" * size + b"\r\n")))
        yield _form(f"a part's header name of {size} bytes", closed(part(PHOTO, more=b"x" * size + b": 1\r\n")))
        yield _form(f"a disposition of {size} bytes", closed(part(PHOTO, b'form-data; name="file"; filename="1.jpg"; ' + b"a=b; " * (size // 5))))
        yield _form(f"quotes of {size} bytes in a disposition", closed(part(PHOTO, b'form-data; name="' + b'\\"' * (size // 2) + b'"; filename="1"')))
    yield _form("10,000 headers in a part", closed(part(PHOTO, more=b"X-A: 1\r\n" * 10_000)))


def all_streams() -> list[BadStream]:
    """On the wire: framing that is wrong, ambiguous, or breaks off."""
    return [BadStream(name, sent, frozenset(statuses)) for name, (sent, statuses) in (_framing() | _heads() | _broken_off()).items()]


def _post(headers: bytes, body: bytes, path: bytes = b"/v1/recognize", version: bytes = b"1.1") -> bytes:
    return b"POST " + path + b" HTTP/" + version + b"\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n" + body


def _sized(size: int | bytes) -> bytes:
    return b"Content-Length: %b\r\n" % (size if isinstance(size, bytes) else b"%d" % size)


_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _chunks(data: bytes, size: int = 100) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _framing() -> dict[str, tuple[bytes, set[int]]]:
    smuggled = b"0\r\n\r\nGET /v1/bundle HTTP/1.1\r\nHost: a\r\n\r\n"
    whole = _chunks(PHOTO)
    return {
        "chunked": (_post(_CHUNKED, whole), {200}),
        "chunks of one byte": (_post(_CHUNKED, _chunks(PHOTO, 1)), {200}),
        "length and chunked": (_post(_sized(len(smuggled)) + _CHUNKED, smuggled), {400}),
        "chunked and length": (_post(_CHUNKED + _sized(4), smuggled), {400}),
        "two lengths": (_post(_sized(5) + _sized(len(PHOTO)), PHOTO), {400}),
        "length twice the same": (_post(_sized(len(PHOTO)) * 2, PHOTO), {200, 400}),
        "length in a list": (_post(_sized(b"5, 5"), b"xxxxx"), {400}),
        "length below 0": (_post(_sized(-1), b""), {400}),
        "length with a plus": (_post(_sized(b"+5"), b"xxxxx"), {400}),
        "length in hex": (_post(_sized(b"0x5"), b"xxxxx"), {400}),
        "length of 5,000 digits": (_post(_sized(b"9" * 5_000), b""), {400, 413}),
        "length of 2**63": (_post(_sized(2**63), b""), {400, 413}),
        "length of 51 GB": (_post(_sized(51_000_000_000), b"x"), {413}),
        "length too large, chunked later": (_post(_sized(60_000_000) + b"Expect: 100-continue\r\n", b""), {413}),
        "obfuscated transfer encoding": (_post(b"Transfer-Encoding: xchunked\r\n", whole), {400}),
        "transfer encoding after a tab": (_post(b"Transfer-Encoding:\tchunked\r\n" + _sized(4), smuggled), {400}),
        "space before the colon": (_post(b"Transfer-Encoding : chunked\r\n", whole), {400}),
        "chunked twice": (_post(b"Transfer-Encoding: chunked, chunked\r\n", whole), {200, 400}),
        "gzip, chunked": (_post(b"Transfer-Encoding: gzip, chunked\r\n", _chunks(gzip.compress(PHOTO))), {400, 422}),
        "gzip as content": (_post(b"Content-Encoding: gzip\r\n" + _sized(len(gzip.compress(PHOTO, mtime=0))), gzip.compress(PHOTO, mtime=0)), {422}),
        "chunk's size is none": (_post(_CHUNKED, b"zz\r\nabc\r\n0\r\n\r\n"), {400}),
        "chunk's size below 0": (_post(_CHUNKED, b"-1\r\nabc\r\n0\r\n\r\n"), {400}),
        "chunk's size of 30 digits": (_post(_CHUNKED, b"f" * 30 + b"\r\nabc"), {400}),
        "chunk longer than its size": (_post(_CHUNKED, b"3\r\nabcdef\r\n0\r\n\r\n"), {400}),
        "chunk extensions": (_post(_CHUNKED, b'3;a="b"\r\n\xff\xd8\xff\r\n0\r\n\r\n'), {400, 422}),
        "chunk extension without end": (_post(_CHUNKED, b"3;" + b"a" * 200_000 + b"\r\n\xff\xd8\xff\r\n0\r\n\r\n"), {400, 422}),
        "trailers": (_post(_CHUNKED, b"3\r\n\xff\xd8\xff\r\n0\r\nAuthorization: Bearer x\r\nContent-Length: 9\r\n\r\n"), {400, 422}),
        "old HTTP": (_post(_sized(len(PHOTO)), PHOTO, version=b"1.0"), {200}),
        "old HTTP, chunked": (_post(_CHUNKED, whole, version=b"1.0"), {200, 400}),
    }


def _heads() -> dict[str, tuple[bytes, set[int]]]:
    return {
        "no HTTP": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(300) + b"\r\n\r\n", {400}),
        "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404, 405}),
        "a method that is none": (_post(b"", b"").replace(b"POST", b"EVIL"), {400, 405}),
        "TRACE": (_post(b"", b"").replace(b"POST", b"TRACE"), {405}),
        "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {400, 404, 405}),
        "a proxy's request": (_post(b"", b"", b"http://169.254.169.254/v1/recognize"), {400, 404, 422}),
        "a path of 100,000 letters": (_post(b"", b"", b"/" + b"a" * 100_000), {400, 404, 405, 414}),
        "a path upwards": (_post(b"", b"", b"/static/../../../../etc/passwd").replace(b"POST", b"GET"), {404}),
        "a path upwards, escaped": (_post(b"", b"", b"/static/%2e%2e/%2e%2e/guard.py").replace(b"POST", b"GET"), {404}),
        "a path upwards, escaped twice": (_post(b"", b"", b"/static/%252e%252e/guard.py").replace(b"POST", b"GET"), {404}),
        "a path with a slash of Windows": (_post(b"", b"", b"/static/..\\..\\guard.py").replace(b"POST", b"GET"), {404}),
        "a path with a zero": (_post(b"", b"", b"/static/%00").replace(b"POST", b"GET"), {404}),
        "a path that is no UTF-8": (_post(b"", b"", b"/static/%ff%fe").replace(b"POST", b"GET"), {404}),
        "a query of garbage": (_post(_sized(len(PHOTO)), PHOTO, b"/v1/recognize?%ff=%00&top_k=%zz&&==&category=%ed%a0%80"), {400}),
        "a category of garbage": (_post(_sized(len(PHOTO)), PHOTO, b"/v1/recognize?category=%ed%a0%80%00%ff"), {200}),
        "10,000 query parts": (_post(_sized(len(PHOTO)), PHOTO, b"/v1/recognize?" + b"a=1&" * 10_000), {200, 400, 414}),
        "10,000 headers": (_post(b"X-A: 1\r\n" * 10_000 + _sized(len(PHOTO)), PHOTO), {200, 400, 431}),
        "a header of 1 MB": (_post(b"X-A: " + b"a" * 1_000_000 + b"\r\n" + _sized(len(PHOTO)), PHOTO), {200, 400, 431}),
        "a header without a name": (_post(b": x\r\n", b""), {400}),
        "a header with a zero": (_post(b"X-A: a\0b\r\n", b""), {400, 422}),
        "a folded header": (_post(b"X-A: a\r\n b\r\n", b""), {400, 422}),
        "a request's id of garbage": (_post(b"X-Request-ID: a b<script>\xff\r\n" + _sized(len(PHOTO)), PHOTO), {200}),
        "two Hosts": (_post(b"Host: evil\r\n" + _sized(len(PHOTO)), PHOTO), {200, 400}),
        "an upgrade": (_post(b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n" + _sized(len(PHOTO)), PHOTO), {200, 400}),
        "a websocket": (
            b"GET /v1/recognize HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            {400, 403, 404, 405},
        ),
        "a range of garbage": (_post(b"Range: bytes=" + b"0-1," * 5_000 + b"\r\n", b"", b"/").replace(b"POST", b"GET"), {200, 206, 400, 416}),
    }


def _broken_off() -> dict[str, tuple[bytes, set[int]]]:
    """What is never sent to its end; there may be no answer (0)."""
    whole = _post(_sized(len(PHOTO)), PHOTO)
    form = closed(part(PHOTO))
    head = _post(b"Content-Type: multipart/form-data; boundary=%b\r\n" % BOUNDARY.encode() + _sized(len(form)), b"")
    cases = {f"closed after {size} bytes": whole[:size] for size in (1, 4, 20, 60, len(whole) - len(PHOTO) - 1, len(whole) - len(PHOTO), len(whole) - 1)}
    cases |= {f"a form closed after {size} bytes": head + form[:size] for size in (0, 10, 80, 400, len(form) - 1)}
    cases |= {"chunks that break off": _post(_CHUNKED, _chunks(PHOTO)[:200]), "closed after the head of 50 MB": _post(_sized(50_000_000), b"x" * 200_000)}
    return {name: (sent, {0, 400}) for name, sent in cases.items()}
