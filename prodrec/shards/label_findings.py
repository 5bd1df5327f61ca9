"""What is found in the labels, their splits and their numbers."""

from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from prodrec.shards.facts import UNDIVIDED, Facts
from prodrec.shards.finding import LARGE_SHARE, MOST_EXAMPLES, MOST_PICTURES, Finding, Severity, counted, named, single
from prodrec.sources.near_equal import near_equal
from prodrec.sources.schema import SPLITS
from prodrec.sources.splits import split_named

# A label with fewer to learn from is rarely recognised. Source: assumed; the few-shot literature starts at 5.
FEW = 5
# The most frequent label has so many times the images of the median one: a long tail. Source: assumed.
LONG_TAIL_TIMES = 10


def one_label(facts: Facts) -> Iterator[Finding]:
    """Of a classifier: boxes of one label are found on a picture, but one label of pictures leaves nothing to tell apart."""
    labels = facts.counts.index
    if facts.objects is None and len(labels) == 1:
        text = f"One label only, {named(_shown(facts, labels))}, for {counted(len(facts.usable), 'usable image')}: there is nothing to tell apart."
        advice = "Is it the name of a folder that holds the products? Then give that folder; else add images of other products."
        yield Finding("one_label", Severity.SERIOUS, text, advice, 1.0, ((labels[0],),))


def names_of_splits(facts: Facts) -> Iterator[Finding]:
    """A data set whose folders were taken for products."""
    labels = list(facts.counts.index)
    if len(labels) > 1 and all(split_named(label) for label in labels):
        text = f"All labels are names of splits: {named(_shown(facts, labels))}."
        advice = "The folders of the splits were taken for products: give each image the label of its product, and these as `split`."
        yield Finding("labels_are_splits", Severity.SERIOUS, text, advice, 1.0, _singly(labels), single(_first_images(facts, labels)))


def nearly_equal(facts: Facts) -> Iterator[Finding]:
    groups = near_equal(facts.counts.index)
    if groups:
        pairs = [" / ".join(f"'{name}'" for name in group) for group in groups]
        products = counted(len(groups), "product seems", "products seem")
        text = f"{products} to stand under several labels: {named(pairs, quote=False)}."
        examples = tuple(tuple(_first_images(facts, group[:MOST_PICTURES])) for group in groups[:MOST_EXAMPLES])
        advice = "Spell each label one way: names that differ in case or blanks are different products to a model."
        yield Finding("near_equal_labels", Severity.WARNING, text, advice, _share(facts, [name for group in groups for name in group]), tuple(groups), examples)


def held_out_without_training(facts: Facts) -> Iterator[Finding]:
    """Labels that are judged and cannot be learned."""
    counts = facts.counts
    if not facts.to_learn.any():
        return
    for split in SPLITS[1:]:
        lacking = _labels(counts, (counts[split] > 0) & (facts.to_learn == 0), split)
        if lacking:
            judged = counted(int(counts.loc[lacking, split].sum()), *_unit(facts))
            text = f"{counted(len(lacking), 'label')} in {split} without any in train: {named(_shown(facts, lacking))} ({judged})."
            advice = "No model can get these right; add training images, or leave the labels out."
            yield Finding(
                f"{split}_without_train", Severity.SERIOUS, text, advice, _share(facts, lacking), _singly(lacking), single(_first_images(facts, lacking))
            )


def training_without_test(facts: Facts) -> Iterator[Finding]:
    counts = facts.counts
    lacking = _labels(counts, (facts.to_learn > 0) & (counts["test"] == 0) & (counts[UNDIVIDED] == 0), "train")
    if lacking and counts["test"].any():
        text = f"{counted(len(lacking), 'label')} in train without any in test: {named(_shown(facts, lacking))}."
        severity = Severity.WARNING if len(lacking) >= LARGE_SHARE * len(counts) else Severity.NOTE
        yield Finding(
            "train_without_test",
            severity,
            text,
            "Nothing will say how well these are recognised.",
            _share(facts, lacking),
            _singly(lacking),
            single(_first_images(facts, lacking)),
        )


def rare_labels(facts: Facts) -> Iterator[Finding]:
    to_learn = facts.to_learn[facts.to_learn > 0]
    rare = to_learn[to_learn < FEW].sort_values(kind="stable")
    if len(rare):
        examples = [f"'{facts.shown(label)}' has {number}" for label, number in rare.items()]
        text = f"{len(rare):,} of {counted(len(to_learn), 'label')} with fewer than {FEW} {_unit(facts)[1]} to learn from: {named(examples, quote=False)}."
        severity = Severity.WARNING if len(rare) >= LARGE_SHARE * len(to_learn) else Severity.NOTE
        advice = "Add images, or merge or leave out these labels; `--recipe embed_then_fit` needs the fewest."
        yield Finding(
            "rare_labels", severity, text, advice, len(rare) / len(to_learn), _singly(list(rare.index)), single(_first_images(facts, list(rare.index)))
        )


def long_tail(facts: Facts) -> Iterator[Finding]:
    to_learn = facts.to_learn[facts.to_learn > 0]
    if len(to_learn) < 2 or to_learn.max() < LONG_TAIL_TIMES * to_learn.median():
        return
    most, half = to_learn.idxmax(), to_learn.median()
    images = counted(int(to_learn.max()), *_unit(facts))
    text = f"A long tail: {named([facts.shown(most)])} has {images} to learn from, half of the {len(to_learn):,} labels {half:g} or fewer."
    advice = "Try `--set balance.logit_adjustment=1 --set balance.class_weights=none`, and judge by macro F1."
    yield Finding("long_tail", Severity.NOTE, text, advice, float(to_learn.max() / to_learn.sum()), ((most,),))


def several_labels_in_a_listing(facts: Facts) -> Iterator[Finding]:
    if facts.objects is not None:
        return
    listed = facts.usable[["listing_id", "label"]].dropna()
    labels = listed.drop_duplicates().groupby("listing_id").size()
    torn = labels.index[labels > 1]
    if len(torn):
        text = f"{counted(len(torn), 'listing has', 'listings have')} images of several labels: {named([*torn])}."
        yield Finding("listing_labels", Severity.NOTE, text, "Check that a listing is one product; each label of it counts by itself.", len(torn) / len(labels))


LABEL_FINDINGS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    one_label,
    names_of_splits,
    nearly_equal,
    held_out_without_training,
    training_without_test,
    rare_labels,
    long_tail,
    several_labels_in_a_listing,
)


def _first_images(facts: Facts, labels: Sequence[str]) -> list[int]:
    """Of each of the first labels an image."""
    chosen = facts.labelled[facts.labelled["label"].isin(labels[:MOST_EXAMPLES])].drop_duplicates("label").set_index("label")["image"]
    return [int(chosen[label]) for label in labels[:MOST_EXAMPLES]]


def _labels(counts: pd.DataFrame, chosen: pd.Series, by: str) -> list[str]:
    """Chosen labels, those first that most depends on."""
    return list(counts.loc[chosen, by].sort_values(ascending=False, kind="stable").index)


def _singly(labels: list[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((label,) for label in labels)


def _shown(facts: Facts, labels: list[str]) -> list[str]:
    return [facts.shown(label) for label in labels]


def _unit(facts: Facts) -> tuple[str, str]:
    return ("image", "images") if facts.objects is None else ("box", "boxes")


def _share(facts: Facts, labels: list[str]) -> float:
    total = facts.counts["total"]
    return float(total.loc[labels].sum() / total.sum())
