"""Recognitions for people: a line of text, a JSON object, a picture with boxes."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.images.pictures import upright
from prodrec.reports.drawing import Box, draw_boxes, drawn_name
from prodrec.scoring.decision import Decision
from prodrec.scoring.recognition import Recognition


def read_image_file(path: Path) -> bytes:
    """Raises: SourceError: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; give the path of an image file") from error


def describe(path: Path, answer: Recognition, decision: Decision, as_json: bool, views: Sequence[Path] = ()) -> str:
    """`shop.jpg: accept; Blue mug (6) 97.1%, Red mug (9) 1.0%; cup 0.98 at 12,40 to 130,210; ...`, or a JSON object on one line.

    Args:
        views: of which the decision is, where there are several: a reason names its own.
    """
    if as_json:
        known = {name: value for name, value in asdict(answer).items() if value is not None and name != "embedding"}
        quality = {"quality": answer.quality._asdict()} if answer.quality else {}
        decided = {"decision": decision.decision, "reasons": [asdict(reason) for reason in decision.reasons]}
        return json.dumps({"image": str(path)} | known | quality | decided)
    if answer.code:
        return f"{path}: rejected, {answer.code}: {answer.detail}"
    products = [f"{product.shown} {product.probability:.1%}" for product in answer.products[:3]]
    tags = [f"{tag.shown} {tag.score:.2f} at {tag.box[0]:.0f},{tag.box[1]:.0f} to {tag.box[2]:.0f},{tag.box[3]:.0f}" for tag in answer.tags]
    found = "; ".join([*([", ".join(products)] if products else []), *tags]) or "nothing found (--threshold shows surer and less sure tags)"
    places = ["" if reason.image is None or not views else f"{views[reason.image]}: " for reason in decision.reasons]
    reasons = [f"\n  {place}{reason.code}: {reason.detail}; {reason.hint}" for place, reason in zip(places, decision.reasons, strict=True)]
    return f"{path}: {decision.decision}; {found}{''.join(reasons)}"


def describe_views(paths: Sequence[Path], answers: Sequence[Recognition], decision: Decision, as_json: bool) -> str:
    """The same of one product whose views were seen together: rejects first, then one line for all others, or a JSON object on one line."""
    if as_json:
        images = [json.loads(describe(path, answer, decision, as_json)) for path, answer in zip(paths, answers, strict=True)]
        shared = {name: next((image[name] for image in images if name in image), None) for name in ("products", "energy", "decision", "reasons")}
        return json.dumps({"images": [{name: value for name, value in image.items() if name not in shared} for image in images]} | shared)
    bad = [describe(path, answer, decision, False) for path, answer in zip(paths, answers, strict=True) if answer.code]
    good = [(path, answer) for path, answer in zip(paths, answers, strict=True) if not answer.code]
    if not good:
        return "\n".join(bad)
    together = replace(good[0][1], tags=tuple(tag for _, answer in good for tag in answer.tags) if len(good) == 1 else ())
    lines = [*bad, describe(Path(" + ".join(str(path) for path, _ in good)), together, decision, False, paths)]
    if len(good) > 1:
        lines += [f"  {path}: {tag.shown} {tag.score:.2f}" for path, answer in good for tag in answer.tags]
    return "\n".join(lines)


def draw_tags(data: bytes, answer: Recognition, path: Path) -> None:
    """Writes the upright picture with its tags as PNG.

    Raises:
        OutputError: it cannot be written.
    """
    drawn, out = draw_boxes(upright(data), [Box(tag.box, f"{drawn_name(tag.label, tag.title)} {tag.score:.2f}") for tag in answer.tags]), io.BytesIO()
    drawn.save(out, "PNG")
    Folder(path.parent).make().write(path.name, out.getvalue())
