"""Benchmarks: `python -m tests.benchmarks` runs all, `python -m tests.benchmarks NAME ...` some.

Each compares with a peer or a floor in the same run, and reports CPU per unit of work: absolute
times depend on the machine and on what else it does.
"""
