"""What lies in a source's folder, looked at once: its files without those of systems, text and JSON of its annotations, its images."""

import json
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources.encodings import utf8
from prodrec.sources.labels import label_file
from prodrec.sources.matching import NameIndex
from prodrec.sources.splits import split_named
from prodrec.sources.tables import notes_of, read_table

# Folders and files that network storage, systems and tools put beside images; all hidden ones (`.git`, `.AppleDouble`, `._1.jpg`,
# `.DS_Store`, `.ipynb_checkpoints`) count too. Source: manuals of Synology DSM, QNAP QTS, NetApp, Windows and macOS.
_SYSTEM_NAMES = ["@eadir", "@tmp", "@appstore", "@database", "@docker", "@sharebin", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"]
_SYSTEM_NAMES += ["__macosx", "network trash folder", "temporary items", "icon\r", "$recycle.bin", "recycler", "system volume information", "thumbs.db"]
_SYSTEM_NAMES += ["ehthumbs.db", "desktop.ini", "picasa.ini", "lost+found", "__pycache__", "node_modules"]
_SYSTEM = rf"(?i)(^|/)(\.|~\$|({'|'.join(map(re.escape, _SYSTEM_NAMES))})(/|$))"
# Files that stand beside images and are none.
_SIDECAR = (
    r"(?i)(\.(txt|csv|tsv|jsonl?|ndjson|md|rst|xml|ya?ml|ini|db|parquet|arrow|html?|pdf|docx?|xlsx?|py|ipynb|sh|log|cfg|names|data|cache|lst|idx|index"
    r"|toml|pkl|pickle|np[yz]|h5|hdf5|mat|pth?|safetensors|tfrecords?|record|rec|mdb|sqlite|zip|tar|t?gz|bz2|7z|rar|mp4|mov|avi|mp3|wav|url|sha256|md5)"
    r"|(^|/)(licen[cs]e|readme|classes|makefile))$"
)
# Annotations stand at most so deep: `annotations/instances_train.json`, `VOCdevkit/VOC2012/ImageSets/Main/train.txt`. Source: assumed.
_DEEPEST = 5
# More JSON files in one folder are one an image, of which one tells the kind. Source: assumed.
_MANY = 40
# Files that are looked into to learn what a source is. Source: assumed.
_MOST = 200


def image_paths(folder: Folder) -> tuple[pa.Array, int]:
    """Paths relative to the folder of what may be images, and the number of files that are not."""
    tree = Tree(folder)
    return tree.images, len(tree.paths) - len(tree.images) + tree.system_files


class Tree:
    """A source's folder.

    Args:
        only: the one annotation file that is to be read; its images are looked for in the whole folder.
        asked: the format that was asked for.
    """

    def __init__(self, folder: Folder, only: str | None = None, asked: str = "auto") -> None:
        self.folder, self.only, self.asked = folder, only, asked
        self.guesses: list[str] = []
        self._known: dict[str, Any] = {}

    @cached_property
    def tops(self) -> list[fs.FileInfo]:
        """Direct children, without those of systems."""
        return [info for info in self.folder.names() if not re.search(_SYSTEM, info.base_name)]

    @cached_property
    def _walked(self) -> pa.Array:
        files = pa.array([info.path for info in self.folder.walk()], pa.string())
        return pc.utf8_slice_codeunits(files, start=len(self.folder.path.rstrip("/")) + 1)

    @cached_property
    def paths(self) -> pa.Array:
        """All files, relative and sorted, without those of systems."""
        return self._walked.filter(pc.invert(pc.match_substring_regex(self._walked, _SYSTEM)))

    @property
    def system_files(self) -> int:
        """How many files were left out as those of systems; 0 where nobody looked."""
        return len(self._walked) - len(self.paths) if "_walked" in vars(self) else 0

    @cached_property
    def images(self) -> pa.Array:
        """All files but those that are surely no images; an image needs no ending."""
        return self.paths.filter(pc.invert(pc.match_substring_regex(self.paths, _SIDECAR)))

    @cached_property
    def annotations(self) -> list[str]:
        """Files that are no images and stand where annotations do; not the one that names labels."""
        beside, names = pc.match_substring_regex(self.paths, _SIDECAR), label_file(self.folder)
        return [path for path in self.paths.filter(beside).to_pylist() if path.count("/") < _DEEPEST and path != names]

    @cached_property
    def image_index(self) -> NameIndex:
        return NameIndex(self.images.to_pylist())

    def named(self, pattern: str) -> list[str]:
        """Annotation files whose path fits in whole; case does not count."""
        whole = re.compile(pattern, re.IGNORECASE)
        return [path for path in ([self.only] if self.only else self.annotations) if whole.fullmatch(path)]

    def few(self, suffix: str) -> list[str]:
        """Annotation files with this ending; of folders with one an image only the first."""
        by_folder: dict[str, list[str]] = {}
        for path in self.named(r".*" + re.escape(suffix)):
            by_folder.setdefault(path.rpartition("/")[0], []).append(path)
        found = [path for paths in by_folder.values() for path in (paths if len(paths) <= _MANY else paths[:1])]
        return sorted(found, key=lambda path: path.count("/"))[:_MOST]

    def where(self, name: str) -> str:
        return self.folder / name

    def text(self, name: str) -> str:
        """Raises: SourceError: its encoding cannot be told."""
        return self.decoded(name, self.folder.read(name))

    def decoded(self, name: str, data: bytes) -> str:
        """The text of a file that tells no encoding; a guess is kept for people in `guesses`."""
        text, note = utf8(data, self.where(name))
        if note:
            self.guesses.append(f"{name}: {note}")
        return text.decode()

    def table(self, name: str) -> pa.Table:
        """A CSV, TSV or Parquet file, read once; a guess is kept for people in `guesses`."""
        return self.remembered(f"table {name}", lambda: self._table(name))

    def _table(self, name: str) -> pa.Table:
        table = read_table(self.folder, name)
        self.guesses += [f"{name}: {note}" for note in notes_of(table)]
        return table

    def lines(self, name: str) -> list[str]:
        """Lines that are not blank, without blanks around them."""
        return [stripped for line in self.text(name).splitlines() if (stripped := line.strip())]

    def numbered_lines(self, name: str) -> list[str]:
        """Lines whose place is a number: blank ones between them count."""
        return [line.strip() for line in self.text(name).rstrip().splitlines()]

    def json(self, name: str) -> Any:
        """Raises: SourceError: it is not JSON."""
        return self.remembered(name, lambda: _parsed(self.text(name), self.where(name)))

    def remembered(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made before under this name, or is made now."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def jsons(self) -> dict[str, Any]:
        """The JSON files that may tell what the source is, read.

        Raises:
            SourceError: one that stands where annotations do is broken.
        """
        found = {}
        for name in self.few(".json"):
            try:
                found[name] = self.json(name)
            except SourceError:
                folder = name.rpartition("/")[0].rpartition("/")[2]
                if not folder or folder.lower() in {"annotations", "labels"} or split_named(folder):
                    raise
        return found


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is not JSON: {error}; export it again") from error


def exists_here(path: str) -> bool:
    """Whether a local absolute path is a file."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
