"""The command line: the only part of devplan that prints.

Every command is a file here.  Nothing heavy is imported before a command runs: ``devplan --help``
must not wait for torch.

Exit status: 0 done, 1 nothing fits (or findings), 2 could not run: bad input, in one line; 70 an
error that nobody foresaw, in one line too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
