"""`python -m tfaug.cli`: the same as the console script `tfaug`."""

import sys

from tfaug.cli import main

sys.exit(main())
