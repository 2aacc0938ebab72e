"""``python -m scorefold_registry.cli``: the command ``scorefold``."""

import sys

from scorefold_registry.cli.main import main

sys.exit(main())
