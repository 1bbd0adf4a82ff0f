"""`python -m valro_client` is the command `valro`."""

import sys

from .command import main

sys.exit(main())
