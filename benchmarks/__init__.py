"""What devplan claims in numbers, measured again: one file a subject, each beside its peer.

``python -m benchmarks`` runs everything and writes ``docs/measurements/``; a name or several run
only these.  Every benchmark is a module with ``measure() -> Report``; `benchmarks.__main__` holds
the one table of them.
"""
