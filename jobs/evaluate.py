"""`ray job submit --working-dir . -- python jobs/evaluate.py ...`: the flags of `prodrec evaluate`, on the cluster of the job."""

import sys

from prodrec.cli import main

main(["evaluate", *sys.argv[1:]])
