"""``python -m smartdpp.diversity``: see smartdpp.comparison.command."""

import sys

from smartdpp.comparison.command import main

if __name__ == "__main__":
    sys.exit(main())
