"""``python -m smartdpp.influence``."""

import sys

from smartdpp.influence.command import main

if __name__ == "__main__":
    sys.exit(main())
