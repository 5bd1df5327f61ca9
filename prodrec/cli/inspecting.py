"""The command that looks at the data."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prodrec.cli.app import app
from prodrec.errors import ConfigError

if TYPE_CHECKING:
    from prodrec.reports.inspection import Inspected

# Images of shards whose quality is measured: a share of 1 % is then known to half a point. Source: 1.96 * sqrt(0.01 * 0.99 / 2000).
_SAMPLE = 2000
# Findings that the terminal shows; the page has them all. Source: assumed.
_MOST_LINES = 6


@app.command("inspect")
def inspect_data(
    data: Annotated[str, typer.Argument(metavar="SOURCE|SHARDS", help="What `prepare` takes, or what it made (local path or URI).")],
    out: Annotated[str | None, typer.Option(help="Folder for index.html and inspect.json.  [default: inspection/NAME]")] = None,
    format: Annotated[str, typer.Option(help="Of a source, as for `prepare`.")] = "auto",
    sample: Annotated[int, typer.Option(min=0, help="Images of shards whose quality is measured, 0 for all; of a source all are looked at.")] = _SAMPLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print inspect.json to stdout, and nothing else there.")] = False,
) -> None:
    """Look at the data before training: one page with what is wrong, the worst first, and what is there."""
    import json

    from prodrec.files import Folder
    from prodrec.shards.finding import counted
    from prodrec.shards.findings import NOTHING_FOUND, worst_lines
    from prodrec.shards.reading import MANIFEST

    folder = Folder(out or Path("inspection") / _name(Folder(data).uri))
    is_shards = Folder(data).is_folder() and Folder(data).exists(MANIFEST)
    if not is_shards and _lies_in(folder.uri, Folder(data).uri):
        raise ConfigError(f"{folder.uri} lies in the source, of which it would become a part; give another --out")
    seen = _seen_shards(data, sample, as_json) if is_shards else _seen_source(data, format, as_json)

    from prodrec.reports.inspection import write_inspection

    found, told = write_inspection(folder, seen)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    for line in worst_lines(found, _MOST_LINES) or [NOTHING_FOUND]:
        print(line)
    more = len(found) - _MOST_LINES
    print(f"open {folder / 'index.html'}" + (f", {counted(more, 'more finding')}" if more > 0 else ""))


def _seen_source(uri: str, format: str, quiet: bool) -> "Inspected":
    from prodrec.sources.source import open_source

    source = open_source(uri, format)
    if not quiet:
        print(source.description, flush=True)

    from prodrec.cli.display import prepare_display
    from prodrec.reports.inspected_pictures import source_pictures
    from prodrec.reports.inspection import Inspected
    from prodrec.shards.inspecting import look_at
    from prodrec.shards.preparing import PrepareOptions

    look = look_at
    if os.environ.get("RAY_ADDRESS"):  # within a Ray job by the whole cluster, else by the threads of this process, which start at once
        from prodrec.cluster.inspecting import look_on_cluster

        look = look_on_cluster
    with prepare_display("looking", "looked at", quiet) as display:
        facts = look(source, PrepareOptions(), display)
    return Inspected(_name(source.uri), source.told, {"source": source.uri, "format": source.format}, facts, source_pictures(source, facts))


def _seen_shards(uri: str, sample: int, quiet: bool) -> "Inspected":
    from prodrec.cli.display import prepare_display
    from prodrec.reports.inspected_pictures import shards_pictures
    from prodrec.reports.inspection import Inspected
    from prodrec.shards.facts import shards_facts
    from prodrec.shards.inspecting import with_quality
    from prodrec.shards.reading import open_shards

    shards = open_shards(uri)
    manifest = shards.manifest
    what = f"prepared shards of {manifest.source}: {manifest.rows_in:,} rows in = {manifest.rows_ok:,} ok + {sum(manifest.rejects.values()):,} rejected"
    if not quiet:
        print(what, flush=True)
    with prepare_display("looking", "looked at", quiet) as display:
        facts = with_quality(shards_facts(shards), shards, sample or None, display)
    kept = ("source", "source_format", "created", "code_version", "short_side", "jpeg_quality", "split_rule", "split_origin")
    data = {"shards": shards.uri} | {name: getattr(manifest, name) for name in kept}
    return Inspected(_name(shards.uri), [what], data, facts, shards_pictures(shards, facts))


def _name(uri: str) -> str:
    return uri.partition("?")[0].rstrip("/").rpartition("/")[2] or "data"


def _lies_in(uri: str, folder: str) -> bool:
    return f"{uri.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
