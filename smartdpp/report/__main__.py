"""``python -m smartdpp.report``."""

import sys

from smartdpp.report.command import main

if __name__ == "__main__":
    sys.exit(main())
