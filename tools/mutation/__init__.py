"""Would the tests notice a mistake?  One at a time is made in a copy, and the tests are run.

``make mutation`` runs it; docs/decisions/0008-mutation.md says why it is made so.

=============== ==================================================================================
file            what it does
=============== ==================================================================================
`operators`     mistakes that Cosmic Ray does not make: ``max`` for ``min``, an answer of None
`mutants`       every mistake that can be made, and the sample that a seed draws of them
`calls`         which test files call which function: only those can notice its mistake
`trying`        a copy of the project, and processes that run tests in it
`document`      docs/measurements/mutation.md
=============== ==================================================================================
"""
