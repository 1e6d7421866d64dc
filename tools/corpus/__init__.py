"""Real bugs of released versions, and whether `devplan check` finds them there.

A bug is caught when the check flags it at its line in the last release that has it, and finds
nothing in the first release without it: the same model, map and inputs in both.  ``bugs.yaml``
holds the facts, ``releases.yaml`` what stands beside each release of transformers, ``results.yaml``
what the last run of each bug showed, and ``docs/corpus.md`` is written from the three.
"""
