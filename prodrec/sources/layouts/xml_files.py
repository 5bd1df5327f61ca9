"""XML as annotation tools write it, read in the encoding that it declares."""

import re
import xml.etree.ElementTree as ET

from prodrec.errors import SourceError
from prodrec.sources.layouts.tree import Tree

_DECLARED = re.compile(rb"""\A\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_DECLARATION = re.compile(r"\A\s*<\?xml.*?\?>", re.DOTALL)
# What programs mean that write these names: the larger character set of the same bytes. Source: WHATWG Encoding standard.
_MEANT = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "euc-kr": "cp949", "iso-8859-1": "cp1252"}


def read_xml(tree: Tree, name: str) -> ET.Element:
    """The root of an XML file.

    Raises:
        SourceError: no XML, not in the encoding that it declares, or with entities of its own.
    """
    where, data = tree.where(name), tree.folder.read(name)
    declared = _DECLARED.match(data)
    encoding = declared[1].decode().lower() if declared else "utf-8"
    # Of UTF-8 and UTF-16 the bytes tell more than the word: programs write it without saving so.
    text = tree.decoded(name, data) if encoding.startswith(("utf", "unicode")) else _in(_MEANT.get(encoding, encoding), data, where)
    if "<!ENTITY" in text:
        raise SourceError(f"{where} defines XML entities, which annotations have no use for; remove them")
    try:
        return ET.fromstring(_DECLARATION.sub("", text.removeprefix("\ufeff")).strip())
    except (ET.ParseError, ValueError) as error:
        raise SourceError(f"{where} is not XML: {error}; export it again") from error


def _in(encoding: str, data: bytes, where: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise SourceError(f"{where} cannot be read as {encoding}, which it declares: {error}; save it as UTF-8") from error
