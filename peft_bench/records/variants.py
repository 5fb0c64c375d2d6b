"""Which adapters are one experiment under several seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def variant_sha256(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe without its name and its training seed, given as plain data.

    Equal hashes mean experiments that differ in the seed only.
    """
    plain = {key: value for key, value in recipe.items() if key != "name"}
    training = plain.get("training")
    if isinstance(training, Mapping):
        plain["training"] = {key: value for key, value in training.items() if key != "seed"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
