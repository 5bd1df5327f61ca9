"""The application that the commands belong to, and what several of them need."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from prodrec.errors import ConfigError, ProdrecError
from prodrec.version import code_version

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Out = Annotated[str, typer.Option("--out", help="Output folder (local path or URI).")]
Gpu = Annotated[bool, typer.Option("--gpu", help="Score on a GPU.")]


def _told_version(wanted: bool) -> None:
    if wanted:
        print(code_version())
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_told_version, is_eager=True, help="Show which code this is.")] = False) -> None:
    """Visual product recognition at catalogue scale, on Ray."""


def announce_ray() -> None:
    """Starting takes seconds: say so."""
    if not os.environ.get("RAY_ADDRESS"):
        print("starting Ray on this machine ...", file=sys.stderr, flush=True)


def judged(judge: Callable[..., Any], gpu: bool, *arguments: Any) -> Any:
    """Judges within a Ray job as a task of the cluster, else here."""
    if not os.environ.get("RAY_ADDRESS"):
        return judge(*arguments, gpu=gpu)
    from prodrec.cluster.evaluate import judged_on_cluster

    return judged_on_cluster(judge, gpu, *arguments)


@contextmanager
def interruption(advice: str) -> Iterator[None]:
    """Ctrl-C says what to do next."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise ProdrecError(advice) from error


def worker_range(text: str) -> tuple[int, int]:
    """`4` or `2:8`. Raises: ConfigError."""
    parts = text.split(":")
    if not all(part.isdecimal() for part in parts) or len(parts) > 2 or not 1 <= int(parts[0]) <= int(parts[-1]):
        raise ConfigError(f"--workers {text}: expected a number such as 4, or a range such as 2:8")
    return int(parts[0]), int(parts[-1])
