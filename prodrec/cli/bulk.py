"""The nightly job."""

from typing import TYPE_CHECKING, Annotated

import typer

from prodrec.cli.app import Gpu, announce_ray, app, interruption, worker_range
from prodrec.errors import ConfigError, ProdrecError

if TYPE_CHECKING:
    from prodrec.sources.listings import Listings


_DATABASES = ("postgres", "mysql", "mariadb", "sqlite", "oracle", "mssql")


@app.command()
def tag(
    input: Annotated[str, typer.Argument(help="Folder of images, CSV/TSV/Parquet manifest, prepared shards, or a database URL with --query.")],
    to: Annotated[str, typer.Option(help="Where results go: sqlite:///FILE, postgresql://..., or a folder for Parquet (local path or URI).")],
    classifier: Annotated[str | None, typer.Option(help="Bundle of a classifier.")] = None,
    tagger: Annotated[str | None, typer.Option(help="Bundle of a tagger.")] = None,
    policy: Annotated[str | None, typer.Option(help="YAML file: what a person must look at (default: docs/operations.md).")] = None,
    query: Annotated[str | None, typer.Option(help="For a database URL: SELECT uri, and listing_id, category, brand, price as far as there.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last run of this input, bundle and policy if it did not finish.")] = False,
    run_id: Annotated[str | None, typer.Option(help="Name of a new run (default: by the time).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Tag the first N listings only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Score a sample, write nothing, and say how long all would take.")] = False,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="For --dry-run: of one scoring process (a GPU, or a core), to tell the cost.")] = None,
    workers: Annotated[str | None, typer.Option(help="Scoring processes: N, or MIN:MAX to follow the work (default: one a GPU, or a core).")] = None,
    gpu: Gpu = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="Fetch images from this host (.example.com: those below it); none else.")] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Fetch without TLS as well.")] = False,
    allow_private: Annotated[bool, typer.Option("--allow-private", help="Fetch from private addresses as well.")] = False,
    max_rejected: Annotated[float, typer.Option(min=0, max=1, help="Exit with 1 where a larger share of the images is rejected.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Tag listings: fetch, check, classify, tag, decide, and write each once, however often it is begun."""
    from prodrec.catalog import open_store
    from prodrec.cli.display import bulk_display, estimate_text, summary_text
    from prodrec.cluster.bulk import Workers, new_run_id, plan_tags
    from prodrec.cluster.bulk import tag as tag_listings
    from prodrec.cluster.estimate import estimate

    listings = _listings(input, query).limited(limit)
    if listings.notes:
        typer.echo(f"{listings.name}: {'; '.join(listings.notes)}", err=True)
    with open_store(to) as store:
        fetch = {"hosts": tuple(allow_host or ()), "schemes": ("https", "http") if allow_http else ("https",), "allow_private": allow_private}
        plan = plan_tags(run_id or new_run_id(), classifier, tagger, policy, store.url, fetch, gpu, listings.prepared)
        least, most = worker_range(workers) if workers else (None, None)
        announce_ray()
        with bulk_display() as display, interruption("interrupted; what is written stays: go on with the same command and --resume"):
            if dry_run:
                print(estimate_text(estimate(listings, plan, Workers(least, most)), price_per_hour))
                return
            run = tag_listings(listings, store, plan, Workers(least, most), resume, display)
    print(run.model_dump_json() if as_json else summary_text(run, listings.duplicates))
    if run.rows_rejected and run.rows_in and run.rows_rejected / run.rows_in > max_rejected:
        raise ProdrecError(f"{run.rows_rejected} of {run.rows_in} images were rejected, more than --max-rejected {max_rejected:g}: see the table rejects")


def _listings(uri: str, query: str | None) -> "Listings":
    from prodrec.shards.listings import open_listings
    from prodrec.sources.listings import gather

    if query is None:
        if uri.lower().startswith(_DATABASES):
            raise ConfigError("a database as input needs --query, such as --query 'SELECT listing_id, uri FROM listings'")
        return open_listings(uri)
    from prodrec.catalog import read_query

    return gather(uri, read_query(uri, query), query)
