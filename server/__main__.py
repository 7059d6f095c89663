"""`python -m server` is `adcore`."""

import sys

from server.cli import main

sys.exit(main())
