"""The command line, ``mmdistill`` and ``python -m mmdistill``; it needs the ``tracker`` extra."""

import sys


def main() -> int:
    """Run the reference tracker's command line, or say what to install for it."""
    try:
        from mmdistill.cli.main import main as run
    except ModuleNotFoundError as error:
        print(f"mmdistill: the command line needs {error.name}: pip install 'mmdistill[tracker]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # Ctrl-C while PyTorch is imported, which takes seconds
        print("mmdistill: interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
