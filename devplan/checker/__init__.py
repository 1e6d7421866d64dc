"""`check`: from a model and a map in any form to findings.

    model, map -> preparation -> structure + runs -> CheckContext -> rules -> CheckResult

`running` makes the virtual runs that `matrix` chooses, `from_model` takes a loaded model as its
source, `accepted` and `baseline` hold what the user has accepted, `baselines` the maps that
accelerate and transformers would choose.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
