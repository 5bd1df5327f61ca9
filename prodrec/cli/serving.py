"""The server."""

import sys
from typing import Annotated

import typer

from prodrec.cli.app import Gpu, app
from prodrec.errors import ConfigError


@app.command()
def serve(
    classifier: Annotated[str | None, typer.Option(help="Bundle of a classifier.")] = None,
    tagger: Annotated[str | None, typer.Option(help="Bundle of a tagger.")] = None,
    policy: Annotated[str | None, typer.Option(help="YAML file: what a person must look at (docs/operations.md).")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all, with --api-key-file.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    api_key_file: Annotated[str | None, typer.Option(help="Ask for a key: a file with the allowed ones, one a line.")] = None,
    settings: Annotated[str | None, typer.Option(help="YAML file of all limits and switches (docs/operations.md).")] = None,
    gpu: Gpu = False,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray: the quickest on a small machine; no bulk runs.")] = False,
) -> None:
    """Answer over HTTP, and show the web page."""
    from prodrec.serving.run import serve_here
    from prodrec.serving.settings import read_keys, read_settings

    changes = {name: value for name, value in (("policy", policy), ("api_keys", api_key_file and read_keys(api_key_file))) if value}
    told = read_settings(settings).model_copy(update=changes)
    if not classifier and not tagger:
        raise ConfigError("there is nothing to serve; give --classifier BUNDLE, --tagger BUNDLE or both")
    if local and told.bulk:
        raise ConfigError("--local has no bulk runs, which go on on Ray; leave out --local, or bulk in the settings")
    if host not in ("127.0.0.1", "localhost", "::1") and not told.api_keys:
        print(f"prodrec: {host} may be reached by others, and no key is asked for: see --api-key-file", file=sys.stderr, flush=True)
    if local:
        serve_here(classifier, tagger, told, host, port, gpu)
        return
    from prodrec.cli.app import announce_ray
    from prodrec.cluster.serve import serve_on_ray

    announce_ray()
    serve_on_ray(classifier, tagger, told, host, port, gpu)
