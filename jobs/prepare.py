"""`ray job submit --working-dir . -- python jobs/prepare.py ...`: the flags of `prodrec prepare`, on the cluster of the job."""

import sys

from prodrec.cli import main

main(["prepare", *sys.argv[1:]])
