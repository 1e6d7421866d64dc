"""The rules: what may be wrong with a device map, one file a rule.

    device map + structure + runs -> CheckContext -> rules -> Finding

A **rule** is a module of this package with a docstring, a ``SEVERITY`` and a pure function
``check(context)`` that yields findings; it prints nothing and reads nothing but the `CheckContext`.
`table` gives every rule its code; codes are never used again for another rule.  The docstring is
the rule's page: ``devplan explain`` prints it and ``make pages`` writes it to ``docs/rules``.

Families: DP0 names and devices, DP1 memory, DP2 structure, DP3 execution, DP4 offload and loading,
DP5 environment, DP9 limits of the check itself.

Several rules share `mismatches`, `remedies`, `renames`, `loads` and `places`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
