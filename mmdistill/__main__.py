"""``python -m mmdistill``: the command line of the reference tracker, which needs the ``tracker`` extra."""

import sys

from mmdistill.reference.cli import main

if __name__ == "__main__":
    sys.exit(main())
