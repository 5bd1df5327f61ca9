"""Pictures that stand more than once: under several labels, in several splits, or for nothing.

Equal bytes are one picture for certain; pictures of one 64-bit difference hash look alike: mostly a photo saved twice, now and then
two products of one shape.
"""

from collections.abc import Callable, Iterator

import pandas as pd

from prodrec.shards.facts import Facts
from prodrec.shards.finding import LARGE_SHARE, Finding, Severity, alike, counted, named, shortened
from prodrec.sources.schema import SPLITS

# Of pictures under several labels, the share from which on the labels as a whole are in doubt. Source: assumed.
SERIOUS_SHARE = 0.01


def same_bytes_under_labels(facts: Facts) -> Iterator[Finding]:
    if facts.objects is not None:
        return
    rows = _several(facts.usable, "sha256", "label")
    if rows.empty:
        return
    pictures, share = rows["sha256"].nunique(), len(rows) / len(facts.usable)
    first = rows[rows["sha256"] == rows["sha256"].iloc[0]].drop_duplicates("label")
    labels = named([facts.shown(label) for label in first["label"]])
    text = (
        f"{counted(pictures, 'picture stands', 'pictures stand')} under several labels, byte for byte ({counted(len(rows), 'image')}): "
        f"{labels} share {_place(first)}."
    )
    advice = "Keep each under its right label: all are kept as they are, and one of them is learned and judged wrong."
    severity = Severity.SERIOUS if share >= SERIOUS_SHARE else Severity.WARNING
    yield Finding("same_picture_several_labels", severity, text, advice, share, _label_sets(rows, "sha256"), alike(rows, "sha256", "label"))


def look_alikes_under_labels(facts: Facts) -> Iterator[Finding]:
    if facts.objects is not None:
        return
    rows = _several(_several(_hashed(facts), "phash", "sha256"), "phash", "label")
    if rows.empty:
        return
    first = rows[rows["phash"] == rows["phash"].iloc[0]].drop_duplicates("label")
    text = (
        f"{counted(rows['phash'].nunique(), 'group')} of pictures that look alike under several labels ({counted(len(rows), 'image')}), "
        f"such as {named([facts.shown(label) for label in first['label']])}."
    )
    advice = "Look at them: a photo saved twice under two labels, or products that differ in colour or print alone."
    yield Finding(
        "look_alike_several_labels", Severity.NOTE, text, advice, len(rows) / len(facts.usable), _label_sets(rows, "phash"), alike(rows, "phash", "label")
    )


def copies_across_splits(facts: Facts) -> Iterator[Finding]:
    rows = _several(facts.usable, "sha256", "split")
    if not rows.empty:
        splits = named([name for name in SPLITS if (rows["split"] == name).any()], quote=False)
        text = f"{counted(rows['sha256'].nunique(), 'picture stands', 'pictures stand')} in several splits, byte for byte ({splits}), such as {_place(rows)}."
        advice = "`prodrec prepare` leaves out the copy nearer to training; what else uses this split judges what it has learned."
        yield Finding("copies_across_splits", Severity.WARNING, text, advice, len(rows) / len(facts.usable), examples=alike(rows, "sha256", "split"))


def look_alikes_across_splits(facts: Facts) -> Iterator[Finding]:
    rows = _several(_several(_hashed(facts), "phash", "sha256"), "phash", "split")
    held_out = rows[rows["split"].isin(SPLITS[1:])]
    if held_out.empty:
        return
    of_all = int(facts.usable["split"].isin(SPLITS[1:]).sum())
    text = f"{len(held_out):,} of {counted(of_all, 'image')} held out for val or test look like an image of another split."
    advice = "If these are the same photos saved again, figures flatter: give them one listing_id, or remove them."
    severity = Severity.WARNING if len(held_out) >= SERIOUS_SHARE * of_all else Severity.NOTE
    yield Finding("look_alikes_across_splits", severity, text, advice, len(held_out) / of_all, examples=alike(rows, "phash", "split"))


def copies(facts: Facts) -> Iterator[Finding]:
    """Exact copies under one label and in one split."""
    keys = facts.usable[["sha256", "split"] + ([] if facts.objects is not None else ["label"])]
    more = keys.duplicated()
    if more.any():
        rows = facts.usable[keys.duplicated(keep=False)]
        share = float(more.mean())
        number = counted(int(more.sum()), "image is an exact copy of another", "images are exact copies of others")
        text = f"{number} with the same label and split, such as {_place(rows)}."
        severity = Severity.WARNING if share >= LARGE_SHARE else Severity.NOTE
        yield Finding("copies", severity, text, "Harmless if few; many make some photos count more than others.", share, examples=alike(rows, "sha256", "uri"))


COPY_FINDINGS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    same_bytes_under_labels,
    copies_across_splits,
    look_alikes_across_splits,
    look_alikes_under_labels,
    copies,
)


def _several(rows: pd.DataFrame, key: str, differ: str) -> pd.DataFrame:
    """Rows of those keys that have several values of another column; the largest groups first."""
    twice = rows[rows.duplicated(key, keep=False)]
    values = twice.groupby(key)[differ].transform("nunique")
    chosen = twice[values > 1]
    sizes = chosen.groupby(key)[key].transform("size")
    return chosen.loc[sizes.sort_values(ascending=False, kind="stable").index]


def _hashed(facts: Facts) -> pd.DataFrame:
    """An even picture has the hash 0, whatever its colour."""
    return facts.usable[facts.usable["phash"] != 0]


def _label_sets(rows: pd.DataFrame, key: str) -> tuple[tuple[str, ...], ...]:
    """Labels that share pictures, each set once, in order."""
    return tuple(dict.fromkeys(tuple(sorted(group)) for _, group in rows.groupby(key, sort=False)["label"].unique().items()))


def _place(rows: pd.DataFrame) -> str:
    return shortened(str(rows["uri"].iloc[0]), 120)
