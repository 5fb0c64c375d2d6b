"""The attack catalogue: each a small program that the sandbox must hold, and its twin.

Loaded by path (tests are no package): see `load` in test_attacks.py.
"""
