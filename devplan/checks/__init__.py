"""The rules: what may be wrong with a device map, one file a rule.

    given map + structure + runs -> Subject -> rules -> Diagnostic

A **rule** is a module in ``devplan.checks.rules`` with a docstring, a ``SEVERITY`` and a pure
function ``check(subject)`` that yields diagnostics; it prints nothing and reads nothing but the
`Subject`.  ``devplan.checks.table`` gives every rule its code; codes are never used again for
another rule.  The docstring is the rule's page: ``devplan explain`` prints it and
``python -m devplan.checks.publish`` writes it to ``docs/rules``.

Families: DP0 names and devices, DP1 memory, DP2 structure, DP3 execution, DP4 offload and loading,
DP5 environment, DP9 limits of the check itself.

Where things are::

    given, read_given, inferred   a map as it was given: file, lines, devices
    structure, live               what is known of the model, from a skeleton or a loaded model
    subject                       everything that a rule may look at
    rules/, table, run            the rules
    mismatches, remedies, renames, loads, places
                                  what several rules share
    ignoring, baseline            findings that the user has accepted
    static                        the check without a virtual run
    rule, publish                 the pages
"""
