"""A registry: the bundles that were shipped, and which one is current.

    REGISTRY/classifier/0001-1a2b3c4d/     a copy of a bundle, complete or not there; number and bundle_id
    REGISTRY/classifier/current.json       the current version and how it came to be; replaced as a whole

A process that is killed leaves the pointer as it was, and at most a version that nothing points to. On a local disk promotions
take turns. NOT covered: on object stores, which have no locks, of two promotions in the same second the later one is current
and the other stays as a version.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from prodrec.config import Frozen, explain_validation
from prodrec.errors import BundleError, ConfigError, ProdrecError
from prodrec.files import Folder, locked
from prodrec.models.bundle_files import INFO, POINTER, bundle_folder, copy_bundle, load_info
from prodrec.models.bundle_info import INFOS, BundleInfo, now_utc

_VERSION = re.compile(r"(\d{4,})-[0-9a-f]{8}")
# `promote` whatever is current.
ANY = "*"


class Release(Frozen):
    """One change of what is current.

    Attributes:
        weights_sha256: of the bundle; empty in what was written before 2026-11-27.
        when: UTC, ISO 8601.
        why: the figures that decided, or a person's words.
    """

    action: Literal["promote", "rollback"]
    version: str
    bundle_id: str
    weights_sha256: str = ""
    when: str
    why: str


class Pointer(Frozen):
    """`current.json`.

    Attributes:
        previous: version that a rollback goes to; None: there is none.
        history: all changes, oldest first; the last one made `version` current.
    """

    version: str
    bundle_id: str
    when: str
    why: str
    previous: str | None
    history: list[Release]


class Withdrawn(NamedTuple):
    """A bundle that a rollback took away, and why.

    Attributes:
        weights_sha256: that were taken away with it; empty where the thresholds alone were, or where the history does not tell.
    """

    bundle_id: str
    weights_sha256: str
    why: str


class Version(NamedTuple):
    name: str
    info: BundleInfo
    is_current: bool


class Overtaken(ProdrecError):
    """Another bundle became current meanwhile."""


class Registry:
    """The versions of one kind of bundle.

    Args:
        uri: the registry's folder, a local path or a URI; made by the first promotion.
        kind: `classifier` or `tagger`.

    Raises:
        ConfigError: another kind.
    """

    def __init__(self, uri: str, kind: str = "classifier") -> None:
        if kind not in INFOS:
            raise ConfigError(f"--kind {kind}: use one of {', '.join(INFOS)}")
        self.kind, self.folder = kind, Folder(Folder(uri) / kind)

    def pointer(self) -> Pointer | None:
        """What is current; None before the first promotion.

        Raises:
            BundleError: current.json cannot be understood.
        """
        if not self.folder.exists(POINTER):
            return None
        try:
            return Pointer.model_validate_json(self.folder.read(POINTER))
        except ValidationError as error:
            raise BundleError(f"{self.folder / POINTER}: {explain_validation(error, Pointer)}; promote a bundle anew after moving it away") from error

    def place(self, version: str) -> str:
        """Folder of a version."""
        return self.folder / version

    def versions(self) -> list[Version]:
        """All complete versions, oldest first."""
        pointer = self.pointer()
        return [Version(name, load_info(self.place(name), self.kind), bool(pointer and pointer.version == name)) for name in self._names()]

    def promote(self, bundle: str, why: str, over: str | None = ANY) -> Pointer:
        """Copies a bundle and makes it current; one that is current stays so.

        Args:
            over: version that must be current still (None: none): the one that the bundle was judged against.

        Raises:
            BundleError: no complete bundle of this kind.
            OutputError: the registry cannot be written.
            Overtaken: another version is current.
        """
        source = bundle_folder(bundle).uri
        info = load_info(source, self.kind)
        with self._alone():
            before = self.pointer()
            if over != ANY and over != (before.version if before else None):
                current = before.version if before else "nothing"
                raise Overtaken(f"{self.folder / POINTER}: {current} is current meanwhile, not {over}; run it again")
            if before and before.bundle_id == info.bundle_id:
                return before
            version = next((name for name in self._names() if load_info(self.place(name)).bundle_id == info.bundle_id), None)
            if version is None:
                version = f"{self._last_number() + 1:04d}-{info.bundle_id[:8]}"
                copy_bundle(source, self.place(version))
            return self._point(before, "promote", version, info, why)

    def rollback(self, why: str = "rollback") -> Pointer:
        """Makes the version current that was so before.

        Raises:
            BundleError: there is none, or it is no longer there.
            OutputError: the registry cannot be written.
        """
        with self._alone():
            before = self.pointer()
            if before is None or before.previous is None:
                raise BundleError(f"{self.folder.uri} has no version before the current one; `prodrec registry list` shows what there is")
            info = load_info(self.place(before.previous), self.kind)
            return self._point(before, "rollback", before.previous, info, why)

    def _point(self, before: Pointer | None, action: Literal["promote", "rollback"], version: str, info: BundleInfo, why: str) -> Pointer:
        release = Release(action=action, version=version, bundle_id=info.bundle_id, weights_sha256=info.weights_sha256, when=now_utc(), why=why)
        history = [*(before.history if before else []), release]
        line = standing(history)
        facts = release.model_dump(exclude={"action", "weights_sha256"})
        pointer = Pointer(**facts, previous=line[-2].version if len(line) > 1 else None, history=history)
        self.folder.write(POINTER, pointer.model_dump_json(indent=2).encode())
        return pointer

    def _names(self) -> list[str]:
        found = [info.base_name for info in self.folder.names() if _VERSION.fullmatch(info.base_name)]
        return [name for name in found if self.folder.exists(f"{name}/{INFO}")]

    def _last_number(self) -> int:
        """Of what stands there, complete or not."""
        return max((int(found[1]) for info in self.folder.names() if (found := _VERSION.fullmatch(info.base_name))), default=0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time on a local disk; the lock of a process that is killed is free at once."""
        self.folder.make()
        with locked(self.folder) as is_local:
            for rest in Path(self.folder.path).glob(".*.part") if is_local else ():  # of a process that was killed: whoever holds the lock is alone
                if rest.is_dir():
                    shutil.rmtree(rest, ignore_errors=True)
                else:
                    rest.unlink(missing_ok=True)
            yield


def standing(history: list[Release]) -> list[Release]:
    """Promotions that led to the current version, whose is the last; what was rolled back is not among them."""
    return _replayed(history)[0]


def withdrawn(history: list[Release]) -> list[Withdrawn]:
    """What rollbacks took away, and nobody promoted since: neither the bundle nor, where they went with it, its weights."""
    return _replayed(history)[1]


def _replayed(history: list[Release]) -> tuple[list[Release], list[Withdrawn]]:
    """The promotions that stand, and what is withdrawn."""
    line: list[Release] = []
    gone: list[Withdrawn] = []
    for release in history:
        if release.action == "promote":
            line.append(release)
            gone = [one for one in gone if one.bundle_id != release.bundle_id and (one.weights_sha256 or None) != release.weights_sha256]
        else:
            taken = line.pop()
            # What it went back to may have the same weights: then the thresholds alone were taken away.
            same = bool(line) and line[-1].weights_sha256 == taken.weights_sha256
            gone.append(Withdrawn(taken.bundle_id, "" if same else taken.weights_sha256, release.why))
    return line, gone
