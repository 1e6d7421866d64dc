"""The gallery of maps: which there are, how they are made, checked and listed.

    rows.yaml -> cells (model x machine) -> maps/table.csv, some maps/*.yaml -> maps/README.md

``python -m tools.gallery`` makes every map anew, ``python -m tools.gallery check`` checks what is
there.  A map is made for each machine that holds the model; ``rows.yaml`` says whose file is kept.
"""
