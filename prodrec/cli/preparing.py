"""What `prepare` says of the splits and of boxes of turned photos."""

from prodrec.sources.schema import SPLITS

_ORIGINS = {"publisher": "the publisher's", "earlier": "kept from earlier shards", "drawn": "drawn", "drawn_from_train": "drawn from the publisher's train"}


def told_splits(origin: dict[str, dict[str, int]]) -> str:
    """Counts by split and by where they come from, in one line."""
    parts = [f"{sum(of.values()):,} {split} ({', '.join(f'{n:,} {_ORIGINS[name]}' for name, n in of.items())})" for split, of in origin.items()]
    given = {name for of in origin.values() for name in of} & {"publisher"}
    missing = [name for name in SPLITS if name not in origin]
    none = f"; no {' and no '.join(missing)}" + (": the publisher gives none" if given and missing == ["test"] else "") if missing else ""
    return f"splits: {', '.join(parts)}{none}"


def told_turned(turned: dict[str, int]) -> list[str]:
    """What boxes of turned photos were taken for; a warning where nothing tells."""
    if not turned:
        return []
    known = [f"{turned[on]:,} have boxes on {on} pixels" for on in ("stored", "upright") if turned.get(on)]
    lines = [f"photos that EXIF turns: {', '.join(known)}"] if known else []
    if unknown := turned.get("unknown"):
        lines.append(
            f"WARNING: of {unknown:,} photos that EXIF turns nothing tells whether their boxes were drawn on stored or upright pixels; taken as upright. "
            "Look at some (prodrec inspect), and give --boxes-on stored or upright"
        )
    return lines
