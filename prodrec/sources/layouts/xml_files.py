"""XML as annotation tools write it, read in the encoding that it declares."""

import re
import xml.etree.ElementTree as ET

from prodrec.errors import SourceError
from prodrec.sources.layouts.tree import Tree, text_of

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
    # A file that tells UTF-16 in letters of one byte is none.
    text = text_of(data, where, "utf-8" if encoding.startswith(("utf-16", "utf16", "unicode")) else _MEANT.get(encoding, encoding))
    if "<!ENTITY" in text:
        raise SourceError(f"{where} defines XML entities, which annotations have no use for; remove them")
    try:
        return ET.fromstring(_DECLARATION.sub("", text.removeprefix("\ufeff")).strip())
    except (ET.ParseError, ValueError) as error:
        raise SourceError(f"{where} is not XML: {error}; export it again") from error
