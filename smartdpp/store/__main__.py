"""``python -m smartdpp.store verify``: see smartdpp.run.verify."""

import sys

from smartdpp.run.verify import main

sys.exit(main())
