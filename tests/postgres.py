"""A real PostgreSQL on a free loopback port, in a folder of its own, for as long as a test needs it."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

USER, PASSWORD = "prodrec", "not-to-be-shown"
# PostgreSQL refuses to run as root: the first of these that the machine has.
_ACCOUNTS = ("postgres", "nobody")
# Source: assumed; it takes one or two seconds on a free machine.
READY_S = 60.0


def programs() -> Path | None:
    """The folder of the newest installed PostgreSQL's programs."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(re.sub(r"\D", "", path.parts[4]) or 0))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(found).parent if found else None


class Postgres:
    """A server with the account `USER`; `with` starts and ends it.

    Args:
        durable: writes reach the disk, as in production; tests do without.
    """

    def __init__(self, durable: bool = False) -> None:
        found = programs()
        if found is None:
            pytest.skip("no PostgreSQL is installed (Debian, Ubuntu: apt-get install postgresql)")
        self._programs, self._durable = found, durable
        self._folder = Path(tempfile.mkdtemp(prefix="prodrec-postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the database `postgres`, which no test writes to."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url_of(name)

    def execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def value(self, query: str) -> Any:
        """The one value that a query gives."""
        with self._connect() as connection:
            (value,) = connection.execute(query).fetchone() or (None,)
        return value

    def start(self) -> None:
        """Starts the server, on the same port each time, and waits until it answers."""
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on" if self._durable else "off"}
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *(f"--{name}={value}" for name, value in options.items())]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(self._as_account(command), cwd="/", stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")

    def stop(self, immediate: bool = False) -> None:
        """Ends the server: by closing its connections, or `immediate`ly, as a crash."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            self._server.wait(READY_S)
            self._server = None

    def __enter__(self) -> Self:
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop(immediate=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_cluster(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if account := self._account():
            for path in (self._folder, password):
                shutil.chown(path, account.pw_uid)
        options = ["-U", USER, f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        command = self._as_account([str(self._programs / "initdb"), "-D", str(self._folder / "data"), *options])
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr}")

    def _account(self) -> pwd.struct_passwd | None:
        """The account to run as; None: the one that the tests run as."""
        if os.geteuid() != 0:
            return None
        for name in _ACCOUNTS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        pytest.skip(f"PostgreSQL refuses to run as root, and there is no account {' or '.join(_ACCOUNTS)}")

    def _as_account(self, command: list[str]) -> list[str]:
        # pdeathsig: a killed test run leaves no server behind.
        account = self._account()
        if account is None:
            return command
        return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--pdeathsig=QUIT", *command]

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True, connect_timeout=5)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), self._connect():
            return True
        return False
