"""The error tree of prodrec.

    ProdrecError                 exit code 1
    ├── UserError                exit code 2: the command line or a file is wrong; one line: what, where, how to mend it
    │   ├── ConfigError          a recipe, a --set or an option
    │   ├── SourceError          a source that cannot be read or understood
    │   ├── ShardsError          a folder that is no complete prepared dataset
    │   ├── WeightsError         pretrained weights that cannot be had or do not fit
    │   ├── BundleError          a bundle that is incomplete, changed or of another version
    │   ├── OutputError          an output place that cannot be written or is taken
    │   └── StoreSetupError      a store that cannot be opened: its URL, its driver, its rights, or a newer prodrec made it
    ├── StoreError               the store is away for too long, or does not take what is written
    ├── TrainingError            a run that cannot go on (a loss that is not finite)
    └── Reject                   one input that cannot be used; becomes a row with a reason code, never ends a job

Errors of third parties are mapped to these where they enter, and nowhere else.
"""

import re
from enum import StrEnum


def shown_url(text: str) -> str:
    """A URL, or a message with URLs in it, that may be shown: passwords, keys and signatures are hidden."""
    text = re.sub(r"(://[^:/?#@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)([\w-]*(?:password|secret|token|signature|credential)[\w-]*|\bsig)=[^&\s]+", r"\1=***", text)


class ProdrecError(Exception):
    """Any failure that prodrec itself names."""

    exit_code = 1


class UserError(ProdrecError):
    """Something the user can mend; the message is one line that says how."""

    exit_code = 2


class ConfigError(UserError):
    pass


class SourceError(UserError):
    pass


class ShardsError(UserError):
    pass


class WeightsError(UserError):
    pass


class BundleError(UserError):
    pass


class OutputError(UserError):
    pass


class StoreSetupError(UserError):
    pass


class StoreError(ProdrecError):
    pass


class TrainingError(ProdrecError):
    pass


class RejectCode(StrEnum):
    """Why an input could not be used."""

    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    # Few pixels or bytes, but built so that decoding takes minutes: thousands of scans, segments or chunks.
    TOO_COSTLY = "too_costly"
    UNSUPPORTED_FORMAT = "unsupported_format"
    MISSING = "missing"
    UNLABELLED = "unlabelled"
    NOT_A_PACKSHOT = "not_a_packshot"
    # Preparing it took longer than the limit for one image.
    TOO_SLOW = "too_slow"
    # The process that decoded it died, more than once.
    CRASHED = "crashed"
    BAD_BOX = "bad_box"
    # The annotation was made on a picture of another size, or before it was turned upright: its boxes would lie elsewhere.
    WRONG_SIZE = "wrong_size"
    # The same bytes stand in two of the publisher's splits: the copy nearer to training is taken out,
    # so that the publisher's test split stays whole and nothing leaks into it.
    DUPLICATE_ACROSS_SPLITS = "duplicate_across_splits"
    # Other images of its listing stand in another of the publisher's splits, further from training.
    LISTING_ACROSS_SPLITS = "listing_across_splits"
    # Longer than a database's key may be, or with a NUL, which no database takes: it is stored under a name made of it.
    BAD_LISTING_ID = "bad_listing_id"
    # Refused before or instead of an answer: the scheme, host or port is not on the list, the address is not public, or a redirect.
    NOT_ALLOWED = "not_allowed"
    FETCH_FAILED = "fetch_failed"
    # The time limit of one image with all its tries, or of the wait for a turn.
    FETCH_TIMEOUT = "fetch_timeout"


class Reject(ProdrecError):
    """One input that cannot be used.

    Args:
        code: the reason.
        detail: one line for a person (what was found).
    """

    def __init__(self, code: RejectCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type["Reject"], tuple[RejectCode, str]]:
        return Reject, (self.code, self.detail)
