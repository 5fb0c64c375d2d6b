"""The side of the sandbox that runs in its own processes: zygotes, candidates, judges.

Executed apart from the caller as a package called `inside` (see worker.py), by an interpreter
that has loaded nothing else: what is imported here is copied with every fork, so the modules
import little and only each other.
"""
