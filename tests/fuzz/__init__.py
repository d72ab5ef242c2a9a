"""Coverage-guided fuzzing of every parser of bytes from outside, with atheris.

    make fuzz-parsers MINUTES=30                          every target, half an hour in all
    python -m tests.fuzz.run receipts --minutes 5         one of them

What a target is, and what holds for all of them: :mod:`tests.fuzz.targets`. Where inputs start from:
:mod:`tests.fuzz.seeds`. An input that broke something is kept in ``tests/fuzz/kept/TARGET/``, under a name that says
what it is; ``test_fuzz_targets.py`` runs it, and every seed, in each test run.
"""
