"""``python -m devplan``."""

import sys

from devplan.cli import main

sys.exit(main())
