"""`ray job submit --working-dir . -- python jobs/train.py ...`: the flags of `prodrec train`, on the cluster of the job."""

import sys

from prodrec.cli import main

main(["train", *sys.argv[1:]])
