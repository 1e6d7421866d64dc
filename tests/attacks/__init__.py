"""Attacks on devplan: each is a small file in ``cases/`` with what is done and what must happen.

``attack`` reads the files, ``making`` writes what they attack with, ``zygote`` runs each in a
process of its own, ``guard`` watches it from inside, ``judging`` knows what holds for every input.
"""
