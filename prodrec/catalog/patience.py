"""What a database's errors mean, and waiting while it is away or busy."""

import logging
import random
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from prodrec.errors import StoreError, StoreSetupError, shown_url

log = logging.getLogger(__name__)

# Waits between tries double from the first to the longest. Source: assumed; a deadlock is over in milliseconds, and a
# thousand workers that ask every five seconds leave a database that starts up alone.
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 5.0

# Beginnings of SQLSTATEs (PostgreSQL manual, appendix A) and of SQLite's names of result codes.
# Away: connection lost, shutting down or starting up, too many connections, a standby that is not yet promoted.
_AWAY = ("08", "57P0", "53300", "25006")
# Busy: deadlock, serialization failure, lock timeout, two writers that insert one key; SQLite's lock.
_BUSY = ("40001", "40P01", "55P03", "23505", "SQLITE_BUSY", "SQLITE_LOCKED")
# The user's: password, database, rights, schema; a file that is read-only, cannot be opened or is no database.
_SETUP = ("28", "3D000", "3F000", "42501", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_PERM", "SQLITE_AUTH")


class Fault(Enum):
    AWAY = "away"
    BUSY = "busy"
    SETUP = "setup"
    OTHER = "other"


T = TypeVar("T")


def persist(work: Callable[[], T], patience_s: float, url: str, opening: bool = False) -> T:
    """Runs one transaction until it succeeds; `work` must change nothing where it fails.

    Args:
        patience_s: how long a database that is away or busy is waited for, seconds.
        opening: the first contact: a database that is away is not waited for, as its URL may be wrong.

    Raises:
        StoreSetupError: what the user can mend; while opening also a database that cannot be reached.
        StoreError: it is away or busy for longer than `patience_s`, or anything else went wrong.
    """
    began, wait_s = time.monotonic(), FIRST_WAIT_S
    while True:
        try:
            return work()
        except SQLAlchemyError as error:
            fault, waited_s = fault_of(error), time.monotonic() - began
            if waited_s + wait_s > patience_s or fault in (Fault.SETUP, Fault.OTHER) or (opening and fault is Fault.AWAY):
                raise _explained(error, fault, url, opening, waited_s) from error
            if fault is Fault.AWAY:
                log.warning("%s is away (%s); waiting for it, %.0f s of %.0f so far", shown_url(url), _reason(error), waited_s, patience_s)
        # Jitter: writers that met once must not meet again.
        time.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def fault_of(error: SQLAlchemyError) -> Fault:
    """What kind of failure it is."""
    code = _code(error)
    for fault, beginnings in ((Fault.BUSY, _BUSY), (Fault.SETUP, _SETUP), (Fault.AWAY, _AWAY)):
        if code.startswith(beginnings):
            return fault
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Fault.AWAY
    if code:
        return Fault.OTHER
    # Drivers tell no code for a connection that fails or breaks, nor has every driver codes.
    if isinstance(error, IntegrityError):
        return Fault.BUSY
    return Fault.AWAY if isinstance(error, OperationalError) else Fault.OTHER


def _code(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None)
    return str(getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or "")


def _reason(error: SQLAlchemyError) -> str:
    """The database's own words in one line, without the statement and its values."""
    return shown_url(" ".join(str(getattr(error, "orig", None) or error).split()))


def _explained(error: SQLAlchemyError, fault: Fault, url: str, opening: bool, waited_s: float) -> StoreSetupError | StoreError:
    where, reason = shown_url(url), _reason(error)
    if fault is Fault.SETUP or (opening and fault is Fault.AWAY):
        return StoreSetupError(f"cannot use the store {where}: {reason}; check its URL, that it is running, and that you may write there")
    if fault is Fault.OTHER:
        return StoreError(f"the store {where} failed: {reason}")
    return StoreError(f"the store {where} was {fault.value} for {waited_s:.0f} s: {reason}; run again with --resume once it is back")
