"""Answers are executed: answers as programs, their tests, scores, and the task class.

``extraction`` and ``problems`` are pure and need no harness; ``running``, ``scores`` and ``task``
are what the harness calls.
"""
