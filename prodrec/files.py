"""Files on local disks and object stores, through pyarrow.fs; writes are whole or absent."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from prodrec.errors import OutputError, SourceError


class Folder:
    """A folder on any filesystem that pyarrow opens.

    Args:
        uri: a local path or a URI such as s3://bucket/photos.

    Raises:
        SourceError: the URI has a scheme that pyarrow does not know, or credentials or region cannot be had.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri) if "://" in str(uri) else os.path.normpath(Path(uri).expanduser().absolute())
        self.filesystem, self.path = resolve(self.uri)

    def __truediv__(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}"

    def within(self, name: str) -> str:
        """Path of `name` for `self.filesystem`."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def exists(self, name: str = "") -> bool:
        return bool(self.filesystem.get_file_info(self.within(name)).type != fs.FileType.NotFound)

    def is_folder(self, name: str = "") -> bool:
        return bool(self.filesystem.get_file_info(self.within(name)).type == fs.FileType.Directory)

    def names(self, name: str = "") -> list[fs.FileInfo]:
        """Direct children of a folder, sorted by name; empty where there is no such folder."""
        selector = fs.FileSelector(self.within(name), recursive=False, allow_not_found=True)
        return sorted(self.filesystem.get_file_info(selector), key=lambda info: info.base_name)

    def walk(self, name: str = "") -> list[fs.FileInfo]:
        """All files below a folder, sorted by path."""
        selector = fs.FileSelector(self.within(name), recursive=True, allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return sorted((info for info in found if info.type == fs.FileType.File), key=lambda info: info.path)

    def read(self, name: str) -> bytes:
        """Raises: FileNotFoundError."""
        with self.filesystem.open_input_stream(self.within(name)) as stream:
            return bytes(stream.read())

    def make(self) -> "Folder":
        """Creates the folder and its parents.

        Raises:
            OutputError: it cannot be created (read-only, full, a file in the way).
        """
        with writing(self.uri):
            self.filesystem.create_dir(self.path, recursive=True)
        return self

    def write(self, name: str, data: bytes) -> None:
        """Writes a file aside and renames it, so that a reader sees all of it or nothing.

        Raises:
            OutputError: it cannot be written (read-only, full).
        """
        with self.written(name) as stream:
            stream.write(data)

    @contextmanager
    def written(self, name: str) -> Iterator[pa.NativeFile]:
        """A stream to a file that is there, whole, once the block has ended well.

        Raises:
            OutputError: as `write`.
        """
        head, slash, tail = name.rpartition("/")
        aside = self.within(f"{head}{slash}.{tail}.{uuid.uuid4().hex[:8]}.part")
        with writing(self / name):
            with self.filesystem.open_output_stream(aside) as stream:
                yield stream
            self.filesystem.move(aside, self.within(name))

    def delete(self, name: str) -> None:
        """Removes a file or folder if it is there."""
        info = self.filesystem.get_file_info(self.within(name))
        if info.type == fs.FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == fs.FileType.File:
            self.filesystem.delete_file(info.path)


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """Splits a local path or URI into a pyarrow filesystem and a path in it.

    Raises:
        SourceError: an unknown scheme, or a store that cannot be set up.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot open {uri}: {error}; give a local path or a URI such as s3://bucket/folder") from error
    return filesystem, path


@contextmanager
def locked(folder: Folder) -> Iterator[bool]:
    """Waits for the lock of a folder on a local disk, and holds it; of a process that is killed it is free at once. Object stores have none.

    Yields:
        Whether there is a lock.

    Raises:
        OutputError: the folder cannot be written.
    """
    if not isinstance(folder.filesystem, fs.LocalFileSystem):
        yield False
        return
    with writing(folder.uri):
        lock = (Path(folder.path) / ".lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield True


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Maps what goes wrong while a source is read to SourceError."""
    try:
        yield
    except UnicodeDecodeError as error:
        name = f"the name {bytes(error.object)!r} of a file or folder in it is no UTF-8"
        raise SourceError(f"cannot read {uri}: {name}; rename it, or all of another system's: convmv -r -f ENCODING -t UTF-8 --notest FOLDER") from error
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise SourceError(f"cannot read {uri}: {' '.join(str(error).split())}; check the path, its permissions and that the file is whole") from error


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Maps what goes wrong while writing to OutputError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else " ".join(str(error).split())
        raise OutputError(f"cannot write {where}: {reason}; free space or choose a writable folder") from error
