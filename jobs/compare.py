"""`ray job submit --working-dir . -- python jobs/compare.py ...`: the flags of `prodrec compare`, on the cluster of the job."""

import sys

from prodrec.cli import main

main(["compare", *sys.argv[1:]])
