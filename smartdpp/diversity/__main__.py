"""``python -m smartdpp.diversity``: see smartdpp.diversity.compare."""

import sys

from smartdpp.diversity.compare import main

if __name__ == "__main__":
    sys.exit(main())
