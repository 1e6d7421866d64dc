"""``python -m devplan``, and the script ``devplan``."""

import sys


def script() -> int:
    """The command line, which imports nothing from the current folder."""
    from devplan import _leave_out_current_folder

    _leave_out_current_folder()
    from devplan.cli import main

    return main()


if __name__ == "__main__":  # [-m] the package has cleaned the path already
    from devplan.cli import main

    sys.exit(main())
