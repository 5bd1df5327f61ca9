"""`ray job submit --working-dir . -- python jobs/tune.py ...`: the flags of `prodrec tune`, on the cluster of the job."""

import sys

from prodrec.cli import main

main(["tune", *sys.argv[1:]])
