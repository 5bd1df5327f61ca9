"""`python -m prodrec.cli`."""

from prodrec.cli import main

main()
