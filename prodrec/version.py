"""Which code is running: the package's version and, in a checkout, the git commit."""

import hashlib
import os
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

# Source: assumed; git answers in milliseconds, and a hanging network drive must not hold up a run.
GIT_TIMEOUT_S = 5.0


@cache
def code_version() -> str:
    """Package version and commit, e.g. `0.1.0`, `0.1.0+g1234abc` or `0.1.0+g1234abc-dirty`; never fails."""
    try:
        version = metadata.version("prodrec")
    except metadata.PackageNotFoundError:
        version = "0"
    commit = git_commit(Path(__file__).resolve().parent.parent)
    return f"{version}+g{commit}" if commit else version


@cache
def code_sha256() -> str:
    """Hash of the package's own files: tells code apart where there is no commit, or one that was changed."""
    package, digest = Path(__file__).resolve().parent, hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in {".py", ".html"}):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def git_commit(checkout: Path) -> str | None:
    """Short commit of a folder that is itself a git checkout, `-dirty` where tracked files were changed; None elsewhere."""
    # A package that was installed into some other project's repository must not report that project's commit.
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    # Inside a git hook GIT_DIR and its like point at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
