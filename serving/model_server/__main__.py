"""`python -m serving.model_server`: the same as `belfry model-server`."""

import sys

from serving.model_server import run

sys.exit(run(sys.argv[1:]))
