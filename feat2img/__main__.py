"""`python -m feat2img` is the command line."""

import sys

from .cli import main

sys.exit(main())
