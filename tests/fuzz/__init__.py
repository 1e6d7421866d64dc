"""Tens of thousands of inputs that nobody wrote, against what must hold for every input.

``values`` and ``mutate`` make what is wrong, ``inputs`` puts it where devplan reads, ``working``
runs it in processes that are watched, ``minimise`` makes what failed small, ``page`` writes the
figures.
"""
