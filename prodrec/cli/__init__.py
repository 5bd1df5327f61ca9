"""The command line. Heavy imports stand inside the commands, so that `prodrec --help` is quick.

Exit codes: 0 done; 2 the command line or a file is wrong (one line on stderr); 1 anything else.
"""

import os
import sys

from prodrec.cli import bulk, comparing, datasets, inspecting, scoring, serving, training, tuning
from prodrec.cli.app import app
from prodrec.errors import ProdrecError, shown_url

__all__ = ["app", "bulk", "comparing", "datasets", "inspecting", "main", "scoring", "serving", "training", "tuning"]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits."""
    # Read when torch is imported, here and in the processes of a local Ray. Threads that wait by spinning take the cores from
    # those that decode: 26 against 107 images/s on two busy cores. Source: docs/log.md 2026-11-20.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app(arguments, prog_name="prodrec")
    except ProdrecError as error:
        print(f"prodrec: {shown_url(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
