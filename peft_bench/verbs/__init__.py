"""The verbs of the command line: a file each, with its options and what it calls.

Nothing heavy is imported before a verb runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # What add_subparsers() returns has no public name.
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Verbs = argparse._SubParsersAction
