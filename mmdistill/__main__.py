"""Runs the command line: ``mmdistill`` and ``python -m mmdistill``; most commands need the ``tracker`` extra."""

import sys


def main() -> int:
    """Run the command line and return the exit status."""
    try:
        from mmdistill.cli.main import main as run
    except KeyboardInterrupt:
        print("mmdistill: interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
