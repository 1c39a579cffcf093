"""``python -m smartdpp.diversity``: see smartdpp.comparison.compare."""

import sys

from smartdpp.comparison.compare import main

if __name__ == "__main__":
    sys.exit(main())
