"""The reports of all commands, as text for people and as JSON for programs.

Nothing here decides, measures or prints: data in, text out.  The command line prints.  Keys of JSON
are added, never renamed or taken away, within one schema version.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
