"""`ray job submit --working-dir . -- python jobs/tag.py ...`: the flags of `prodrec tag`, on the cluster of the job."""

import sys

from prodrec.cli import main

main(["tag", *sys.argv[1:]])
