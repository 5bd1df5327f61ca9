"""In which encoding a text file is, told by its bytes: a guess is told, and what cannot be told is refused, never read as something else."""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

from prodrec.errors import SourceError

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_PIECE_BYTES = 1 << 24
# Lines with other letters than ASCII that are looked at. Source: assumed; frequencies of letters settle within some hundred.
_LOOKED_AT = 2_000
# Share of these letters that an encoding's languages use. Source: docs/log.md 2026-11-28: right ones 0.97 and more, wrong ones under 0.7.
_LIKELY = 0.9
# Different letters that a guess between Chinese and Korean wants. Source: a Chinese text of 8 has one outside of the Korean range 999 times of 1,000.
_TELLING = 8
# What Western languages and their typesetters write beside ASCII, in Windows-1252. Thorn, eth and y-acute stand in Turkish files for other letters.
_WESTERN = frozenset("€‚„…‘’“”•–—™œŒšŠžŽ ¡£§©ª«®°²³´µ·º»¼½¾¿×" + "".join(map(chr, range(0xC0, 0x100)))) - frozenset("ÐÝÞðýþÿ÷")
# Long runs of letters that words have one by one, and marks within words; letters of the East within words of the West.
_NOT_WESTERN = re.compile(r"[À-ÖØ-öø-ÿ]{3,}|[a-zß-ÿ][¡¿ª²³¹¼½¾À-ÞŠŽŒ][a-zß-ÿ]")
_NOT_EASTERN = re.compile(r"[a-z][^\x00-\x7f]+|[^\x00-\x7f]+[a-z]")
_KANA = re.compile(r"[\u3041-\u30fe]")


def utf8(data: bytes, where: str) -> tuple[bytes, str | None]:
    """The text as UTF-8 without a byte order mark, and what was guessed (None: nothing).

    Raises:
        SourceError: the encoding cannot be told, or the bytes are damaged.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    told = _MARKS.get(mark) or _by_zeros(data)
    data = data[len(mark) :]
    if told and told != "utf-8":
        return _decoded(data, told, where).encode(), None
    wrong = _first_wrong(data)
    if wrong is None:
        return data, None
    line = data.count(b"\n", 0, wrong) + 1
    if told or _is_damaged(data):
        raise SourceError(f"{where}, line {line:,}: bytes that are no UTF-8, though the rest of the file is; write this line anew, or save the file as UTF-8")
    guess = _guess(data, where)
    if guess == "cp1252" and any(_first_wrong(line) is None for line in _telling_lines(data)):
        raise SourceError(f"{where}: some lines are UTF-8, others are not, such as line {line:,}; save the whole file as UTF-8")
    text = _decoded(data, guess, where)
    seen = next(word for word in re.findall(r"[^,;\t|\"\r\n]+", text) if not word.isascii())
    return text.encode(), f"taken for {_NAMES[guess]} text, as it is no UTF-8 (it reads '{seen.strip()[:40]}'): save it as UTF-8 if that is wrong"


def _by_zeros(data: bytes) -> str | None:
    """UTF-16 without a mark: of ASCII letters, which headers begin with, every other byte is zero."""
    zeros = "".join("0" if byte == 0 else "." for byte in data[:4])
    return {".0.0": "utf-16-le", "0.0.": "utf-16-be"}.get(zeros)


def _decoded(data: bytes, encoding: str, where: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError as error:
        raise SourceError(f"{where} is damaged {encoding.upper()} text at byte {getattr(error, 'start', 0):,}; save it again, as UTF-8") from error


def _first_wrong(data: bytes) -> int | None:
    """Place of the first bytes that are no UTF-8; piece by piece, as the whole as text may take four times its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _PIECE_BYTES):
        before = len(decoder.getstate()[0])
        piece = data[start : start + _PIECE_BYTES]
        try:
            decoder.decode(piece, final=start + _PIECE_BYTES >= len(data))
        except UnicodeDecodeError as error:
            return start - before + error.start
    return None


def _is_damaged(data: bytes) -> bool:
    """Whether it is UTF-8 for the most part: two and more bytes in a row seldom are by chance."""
    text = b"\n".join(_telling_lines(data)).decode("utf-8", "replace")
    letters = [letter for letter in text if not letter.isascii()]
    return letters.count("\N{REPLACEMENT CHARACTER}") * 2 < len(letters)


def _telling_lines(data: bytes) -> Iterable[bytes]:
    return islice((match[0] for match in re.finditer(rb"[^\r\n]*[\x80-\xff][^\r\n]*", data)), _LOOKED_AT)


def _guess(data: bytes, where: str) -> str:
    sample = b"\n".join(_telling_lines(data))
    likely = [encoding for encoding, expected in _EXPECTED.items() if _share(sample, encoding, expected) >= _LIKELY]
    if "euc_jp" in likely:  # its common ideographs stand where the Chinese ones do: kana tell
        likely = ["euc_jp"] if _KANA.search(sample.decode("euc_jp")) else [encoding for encoding in likely if encoding != "euc_jp"]
    if likely == ["euc_kr", "gb18030"]:
        letters = {letter for letter in sample.decode("gb18030") if not letter.isascii()}
        likely = ["euc_kr"] if len(letters) >= _TELLING else likely
    if len(likely) == 1:
        return likely[0]
    among = " or ".join(_NAMES[encoding] for encoding in likely)
    found = f"it could be {among}" if likely else f"tried UTF-8, UTF-16, {', '.join(_NAMES.values())}"
    raise SourceError(f"{where}: the encoding of its text cannot be told ({found}); save it as UTF-8, or convert it: iconv -f ENCODING -t UTF-8 FILE > NEW")


def _share(sample: bytes, encoding: str, expected: Callable[[str], bool]) -> float:
    """Of the letters outside of ASCII, those that are expected; 0 where the bytes are not of this encoding."""
    try:
        text = sample.decode(encoding)
    except UnicodeError:
        return 0.0
    letters = Counter(letter for letter in text if not letter.isascii())
    unlikely = sum(len(match) for match in (_NOT_WESTERN if encoding == "cp1252" else _NOT_EASTERN).findall(text))
    return (sum(count for letter, count in letters.items() if expected(letter)) - unlikely) / letters.total()


def _wide(letter: str) -> bool:
    """Punctuation and full-width letters of East Asian texts."""
    return "\u3000" <= letter <= "\u303f" or "\uff01" <= letter <= "\uff5e"


def _lead(encoding: str, first: int, last: int) -> Callable[[str], bool]:
    """The ideographs in common use stand together in each encoding. Source: JIS X 0208 and GB/T 2312 level 1, Big5 level 1."""
    return lambda letter: _wide(letter) or ("\u4e00" <= letter <= "\u9fff" and first <= letter.encode(encoding)[0] <= last)


def _japanese(letter: str) -> bool:
    return _KANA.match(letter) is not None or _COMMON_KANJI(letter)


_COMMON_KANJI = _lead("cp932", 0x88, 0x98)
_EXPECTED: dict[str, Callable[[str], bool]] = {
    "cp1252": _WESTERN.__contains__,
    "cp932": _japanese,
    "euc_jp": _japanese,
    "euc_kr": lambda letter: unicodedata.name(letter, "").startswith("HANGUL SYLLABLE"),
    "gb18030": _lead("gb18030", 0xB0, 0xD7),
    "big5": _lead("big5", 0xA4, 0xC6),
}
_NAMES = {"cp1252": "Windows-1252 (Latin-1)", "cp932": "Shift_JIS", "euc_jp": "EUC-JP", "euc_kr": "EUC-KR", "gb18030": "GBK", "big5": "Big5"}
