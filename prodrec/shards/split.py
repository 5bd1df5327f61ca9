"""Which image is learned from, which chooses, which judges.

The rule (a function of the image bytes, their label and their listing only, so the order of the source does not matter):

- The images of a listing go together, and so do listings with the very same images; an image without a listing is a listing of
  one. "Image" below means such a unit, and its sha256 that of all of its bytes.

- A publisher's split is kept. Bytes that stand in two of its splits stay in the one furthest from training
  (test, then val); their other rows are dropped, for the caller to account for.
- Images without a split are divided class by class, ordered by sha256. Where a publisher gives train and test but no
  val, val is taken out of train.
- A class of n images sends floor(n * share + u) to a held-out split, where u in [0, 1) is a hash of the label: over
  many small classes the shares come out exact. A class of 3 or more has at least one image in test, of 4 or more one
  in val, and every class keeps at least one in train.
- Where earlier shards are named, an image that stood there keeps its split, whatever the source says now: what a bundle was trained
  on is never held out, and what it was judged on is not learned from. Of each class the other images fill what is missing of its
  shares. A listing goes where its earlier images were.
- Bytes that stand in listings of two splits stay in the one furthest from training, too; and of a listing whose images stand
  in two of the publisher's splits, or of earlier ones, those nearer to training are dropped.
"""

import hashlib
from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd

from prodrec.errors import ConfigError

_LEVELS = {"train": 1, "val": 2, "test": 3}  # the further from training, the higher; 0 is none given
_HELD_OUT = ("test", "val")
_SHA256_DIGITS = 64
_LEAST_FOR_ONE = {"test": 3, "val": 4}


class Fractions(NamedTuple):
    """Shares of a split; they sum to 1."""

    train: float
    val: float
    test: float


class Earlier(NamedTuple):
    """Where images stood before: split by sha256, and by listing_id."""

    of_image: dict[str, str]
    of_listing: dict[str, str]


NOWHERE = Earlier({}, {})


def parse_fractions(text: str) -> Fractions:
    """Reads `0.8,0.1,0.1` (train, val, test) or `0.8,0.2` (train, test).

    Raises:
        ConfigError: not two or three shares, negative ones, none for train, or a sum other than 1.
    """
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) == 2:
        shares = [shares[0], 0.0, shares[1]]
    if len(shares) != 3 or min(shares) < 0 or shares[0] <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"--split {text}: expected train,val,test or train,test as shares that sum to 1, such as 0.8,0.1,0.1")
    return Fractions(*shares)


def assign_splits(
    sha256: pd.Series,
    label: pd.Series,
    given: pd.Series,
    fractions: Fractions,
    listing_id: pd.Series | None = None,
    earlier: Earlier = NOWHERE,
) -> pd.Series:
    """Split of every row, or None for a row that must be dropped, as its bytes or others of its listing stand further from training.

    Args:
        sha256: of the image bytes, [N] strings.
        label: class name, [N] strings.
        given: publisher's split, [N] strings or None.
        fractions: shares for images without a given split.
        listing_id: [N] strings or None.
        earlier: splits that are kept.

    Returns:
        [N] of "train", "val", "test" or None, with the index of `sha256`.
    """
    given_level, kept_level = (splits.map(_LEVELS).fillna(0).astype(int) for splits in (given, _kept(sha256, listing_id, earlier)))
    publishers = {name for name, level in _LEVELS.items() if (given_level == level).any()}
    shares = _open_shares(publishers, fractions)
    most_open = _LEVELS["train"] if publishers and shares["val"] > 0 else 0
    rows = pd.DataFrame({"sha256": sha256, "unit": units(sha256, listing_id), "label": label, "kept": kept_level})
    rows["level"] = kept_level.where(kept_level > 0, given_level)
    images = rows.groupby("unit").agg(label=("label", "min"), kept=("kept", "max"), level=("level", "max"))
    images["split"] = images["level"].map({level: name for name, level in _LEVELS.items()}).astype(object)
    is_open = (images["kept"] == 0) & (images["level"] <= most_open)
    if is_open.any():
        images.loc[is_open, "split"] = _divide(images[is_open | (images["kept"] > 0)].assign(split=images["split"].mask(is_open, None)), shares)
    split = rows["unit"].map(images["split"]).astype(object)
    goes_along = (kept_level == 0) & (given_level <= most_open) & (rows["unit"].map(images["kept"]) == rows["unit"].map(images["level"]))
    split = split.mask((rows["level"] > 0) & (rows["level"] < rows["unit"].map(images["level"])) & ~goes_along, None)
    level = split.map(_LEVELS).fillna(0)
    return split.mask(level < level.groupby(rows["sha256"]).transform("max"), None)


def split_origin(rows: pd.DataFrame, earlier: Earlier) -> dict[str, dict[str, int]]:
    """Where the splits of images come from: counts by split and origin (`ShardsManifest.split_origin`).

    Args:
        rows: columns split, given_split (the publisher's or None), sha256 and listing_id.
        earlier: splits that were kept.
    """
    is_earlier = rows["sha256"].isin(earlier.of_image) | rows["listing_id"].isin(earlier.of_listing)
    given = rows["given_split"]
    origin = pd.Series("drawn", index=rows.index).mask(given.notna(), "drawn_from_train").mask(given == rows["split"], "publisher").mask(is_earlier, "earlier")
    counts = Counter(zip(rows["split"], origin, strict=True))
    return {split: {name: n for (where, name), n in sorted(counts.items()) if where == split} for split in _LEVELS if (rows["split"] == split).any()}


def _kept(sha256: pd.Series, listing_id: pd.Series | None, earlier: Earlier) -> pd.Series:
    """[N], the earlier split of the image or, of one that is new, of its listing; NaN: there is none."""
    kept = sha256.map(earlier.of_image).astype(object)
    return kept if listing_id is None else kept.where(kept.notna(), listing_id.map(earlier.of_listing, na_action="ignore").astype(object))


def units(sha256: pd.Series, listing_id: pd.Series | None) -> pd.Series:
    """[N], what goes together: the bytes of the row, or all those of its listing."""
    if listing_id is None or listing_id.isna().all():
        return sha256
    known = pd.DataFrame({"listing_id": listing_id, "sha256": sha256}).dropna().drop_duplicates().sort_values("sha256")
    joined = known.groupby("listing_id")["sha256"].agg("".join).map(lambda text: text if len(text) == _SHA256_DIGITS else _sha256(text))
    return listing_id.map(joined).fillna(sha256)


def _open_shares(publishers: set[str], fractions: Fractions) -> dict[str, float]:
    """Shares of the held-out splits that the publisher left open, out of what is left for division."""
    test = 0.0 if publishers else fractions.test
    val = 0.0 if "val" in publishers else fractions.val
    left = fractions.train + val + test
    return {"test": test / left, "val": val / left}


def _divide(images: pd.DataFrame, shares: dict[str, float]) -> pd.Series:
    """Divides units (their sha256 is the index; columns label, split) class by class; [M] of split names, for those that have none."""
    sizes = images.groupby("label").size()
    held = {name: (images["split"] == name).groupby(images["label"]).sum() for name in _LEVELS}
    ordered = images[images["split"].isna()].sort_index()
    rank = ordered.groupby("label").cumcount()
    split = pd.Series("train", index=ordered.index, dtype=object)
    start = pd.Series(0, index=sizes.index)
    room = sizes - sum(held.values()) - (held["train"] == 0)
    for name in _HELD_OUT:
        end = start + (_held_out(sizes, shares[name], name) - held[name]).clip(upper=room - start).clip(lower=0)
        inside = (rank >= ordered["label"].map(start)) & (rank < ordered["label"].map(end))
        split[inside] = name
        start = end
    return split


def _held_out(sizes: pd.Series, share: float, name: str) -> pd.Series:
    """Images that each class sends to one held-out split, if it has so many to spare."""
    if share == 0:
        return pd.Series(0, index=sizes.index)
    rounding = np.array([_unit_hash(f"{name}:{label}") for label in sizes.index])
    wanted = np.floor(sizes * share + rounding).astype(int)
    return wanted.mask((wanted < 1) & (sizes >= _LEAST_FOR_ONE[name]), 1)


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
