"""`ray job submit --working-dir . -- python jobs/inspect_data.py ...`: the flags of `prodrec inspect`, on the cluster of the job.

Not called inspect.py: beside the scripts of this folder it would hide Python's own module of that name.
"""

import sys

from prodrec.cli import main

main(["inspect", *sys.argv[1:]])
