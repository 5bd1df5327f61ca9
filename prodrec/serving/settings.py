"""What a server of prodrec is told: limits, keys, and which of its doors are open. All doors are shut by default."""

import hashlib
import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError

from prodrec.config import Frozen, PositiveFloat, PositiveInt, explain_validation
from prodrec.errors import ConfigError
from prodrec.scoring.fetch import FetchLimits
from prodrec.serving.bulk import BulkSettings

# Hex, of a key.
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s*]+$")]
# Fewer can be guessed. Source: 128 bits in base64.
LEAST_KEY_CHARS = 22


class EngineOptions(Frozen):
    """How bundles are put to work.

    Attributes:
        max_batch_size: images of a forward pass. Source: benchmarks/serve.py, docs/log.md 2026-11-25: 32 was as good as 16 or better in each of five rounds.
        threads: that prepare images, and half as many score; None: the cores that this process may use.
        max_pixels: of an image; a larger one is refused by its header. Source: assumed; a 48-megapixel phone photo. Each thread that
            prepares holds 4 bytes a pixel, and a file of 200 kB may be that large.
        max_long: images that may take long to decode (HEIC, AVIF, TIFF, GIF, BMP, very large ones), at work or waiting at once: the places of
            a server are not filled by them. Source: as many as a request of several has at work at once.
        max_explaining: heat maps that are made or wait for it at once; they are made one by one. Source: assumed; a few seconds.
    """

    max_batch_size: PositiveInt = 32
    threads: PositiveInt | None = None
    max_pixels: PositiveInt = 50_000_000
    max_long: PositiveInt = 16
    max_explaining: PositiveInt = 4


class ServingSettings(Frozen):
    """One server's limits.

    Attributes:
        policy: YAML file of the decisions' policy; None: the defaults.
        max_body_bytes: of a request with one image. Source: as prodrec.images.formats.ImageLimits, and a megabyte around it.
        max_batch_files, max_batch_bytes: of one request of several images. Source: issue 5; assumed.
        max_in_flight: requests that are read or answered at once; one more is told to come later. Source: assumed.
        place_wait_s: that one more waits for a place before. Source: assumed; a burst of files that are refused by their heads is over by then.
        max_held_bytes: of all bodies in memory at once. Source: assumed; five of the largest requests.
        body_timeout_s: for the body to come. request_timeout_s: for the answer, from then on. Source: assumed.
        retry_after_s: that a busy server asks for. Source: assumed; a few batches.
        api_keys: SHA-256 of each key, hex; (): no key is asked for.
        allow_origins: pages of other sites that may call this server (CORS), such as https://shop.example.
        engine: of `prodrec serve`; on a cluster each deployment has its own in `user_config`.
        image_url: what may be fetched where a request names an image by its URL; None: nothing.
        bulk: where bulk runs write and what they may read; None: switched off.
    """

    policy: str | None = None
    max_body_bytes: PositiveInt = 51_000_000
    max_batch_files: PositiveInt = 64
    max_batch_bytes: PositiveInt = 200_000_000
    max_in_flight: PositiveInt = 64
    place_wait_s: PositiveFloat = 1.0
    max_held_bytes: PositiveInt = 1_000_000_000
    body_timeout_s: PositiveFloat = 30.0
    request_timeout_s: PositiveFloat = 30.0
    retry_after_s: Annotated[int, Field(ge=1)] = 1
    api_keys: tuple[KeyHash, ...] = ()
    allow_origins: tuple[Origin, ...] = ()
    engine: EngineOptions = EngineOptions()
    image_url: FetchLimits | None = None
    bulk: BulkSettings | None = None


def hash_key(key: str) -> str:
    """What the settings hold of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: str) -> tuple[str, ...]:
    """Hashes of the keys in a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        ConfigError: it cannot be read, holds no key, one that could be guessed, or one that no header can carry.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the keys of {path}: {error}; give a text file with a key a line") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    # A header carries no other characters in a way that all clients agree on.
    if not keys or not all(re.fullmatch(rf"[!-~]{{{LEAST_KEY_CHARS},}}", key) for key in keys):
        expected = f"keys of {LEAST_KEY_CHARS} letters, digits and signs or more, without spaces, one a line"
        raise ConfigError(f"{path}: expected {expected}; make one by: openssl rand -base64 24")
    return tuple(hash_key(key) for key in keys)


def read_settings(path: str | None) -> ServingSettings:
    """From a YAML file; None: the defaults.

    Raises:
        ConfigError: it cannot be read, is no YAML mapping, or has an unknown key or a value out of range.
    """
    if path is None:
        return ServingSettings()
    try:
        tree = yaml.safe_load(Path(path).read_text())
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} holds no settings: expected a mapping with keys such as {', '.join(list(ServingSettings.model_fields)[:4])}")
        return ServingSettings.model_validate(tree)
    except OSError as error:
        raise ConfigError(f"cannot read the settings {path}: {error.strerror}; give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings {path} are not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain_validation(error, ServingSettings)}") from error
