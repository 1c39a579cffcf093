"""``python -m smartdpp.law``."""

import sys

from smartdpp.law.command import main

if __name__ == "__main__":
    sys.exit(main())
