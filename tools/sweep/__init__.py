"""The sweep: every model type of the installed transformers, checked on two virtual cards.

    universe   which types there are, and the class that stands for each
    usable     what makes default configurations usable, and smaller
    maps       the two maps of a type: devplan's own plan, and accelerate's "auto"
    attempt    one type built, given inputs, and run split with each map
    row        what came of it, as it is kept between runs
    worker     attempts in a process of its own, within a memory limit
    gather     all types within a time limit, resumed where it was interrupted
    readings   what people found in the code behind every finding
    table      ``docs/coverage.md``

``make sweep`` runs it all.
"""
