"""Which file is meant by a name as people write it: with or without ending and folders, other slashes, case or normal form."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prodrec.errors import SourceError
from prodrec.sources.splits import split_of_folders

# An ending begins with a letter: `item.2` is a name of its own, not `item` with another ending.
_ENDING = re.compile(r"(?<=.)\.[^\W\d_]\w{0,4}$")


def written(name: str) -> str:
    """A name with `/` between folders, without `./` and quotes around it."""
    parts = name.strip().strip("\"'").replace("\\", "/").split("/")
    return "/".join(part for i, part in enumerate(parts) if part not in {".", ".."} and (part or i == 0))


class NameIndex:
    """Paths by their last name."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._exact.add(path)
            name = _folded(path.rpartition("/")[2])
            for key in {name, _stem(name)}:
                self._by_name[key].append(path)

    def find(self, name: str, near: Sequence[str] = (), split: str | None = None) -> str | None:
        """The path that is meant; None: none, or a file of that name alone that stands in the folder of another split.

        Args:
            near: folders, with a `/` at the end, where it is looked for first.
            split: of several, the one in a folder of this split is meant.

        Raises:
            SourceError: it may be either of two.
        """
        name = written(name)
        for place in (*near, ""):
            if place + name in self._exact:
                return place + name
        last = _folded(name.rpartition("/")[2])
        found = self._by_name.get(last) or self._by_name.get(_stem(last)) or []
        if not found:
            return None
        return self._best(found, name, near, split)

    def _best(self, found: list[str], name: str, near: Sequence[str], split: str | None) -> str | None:
        asked = [_folded(part) for part in name.split("/")[:-1] if part]

        def score(path: str) -> tuple[int, int, bool, bool]:
            folders = [_folded(part) for part in path.split("/")[:-1]]
            same = next((i for i, (one, two) in enumerate(zip(reversed(asked), reversed(folders), strict=False)) if one != two), min(len(asked), len(folders)))
            place = next((len(near) - i for i, start in enumerate(near) if path.startswith(start)), 0)
            return same, place, split is not None and split_of_folders("/".join(folders)) == split, path.rpartition("/")[2] == name.rpartition("/")[2]

        best = max(map(score, found))
        paths = [path for path in found if score(path) == best]
        if len(paths) > 1:
            raise SourceError(f"'{name}' may be {paths[0]} or {paths[1]}; write the folder too, or give the files names of their own")
        said = split or split_of_folders("/".join(asked))
        there = split_of_folders(paths[0].rpartition("/")[0])
        return None if best[0] == 0 and best[1] == 0 and said and there and said != there else paths[0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return _ENDING.sub("", name)
