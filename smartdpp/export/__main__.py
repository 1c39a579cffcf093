"""``python -m smartdpp.export``: see smartdpp.export.command."""

import sys

from smartdpp.export.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
