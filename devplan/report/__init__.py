"""What a person or a program is told: plans and infeasible plans as text and as JSON.

Nothing here decides, measures or prints: data in, text out.  The command line prints.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
