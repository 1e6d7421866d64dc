"""Check against reality: every model type, small, split for real over CPU and disk.

    tiny       small models of every type
    real       the calls of a check, with values
    attempt    one type: a checkpoint, two maps, the check, the loads, the calls
    row        what came of it, as it is kept between runs
    gather     all types, each in a process of its own
    judge      where check and reality disagree
    explained  why, where somebody found out: ``explained.yaml``
    page       ``docs/differential.md``

``make differential`` runs it all.
"""
