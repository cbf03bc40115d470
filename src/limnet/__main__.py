"""`python -m limnet`: the command line of this very interpreter."""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    sys.argv[0] = "limnet"  # as results record their command
    main()
