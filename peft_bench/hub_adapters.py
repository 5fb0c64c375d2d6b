"""Adapters of the Hugging Face hub, by their ids."""

from __future__ import annotations

import re
from pathlib import Path

from peft_bench.errors import MissingError

_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
# Optimizers, and weights in formats that can run code, are not loaded: they stay on the hub.
_LEFT = ("checkpoint*/*", "*.bin", "*.pt", "*.pth", "*.ckpt")


def adapter_folder(named: str | Path) -> Path:
    """Where an adapter lies: the folder that is named, or a copy of what the hub has of an id.

    An id is ``ORG/NAME`` or ``ORG/NAME@REVISION``; where there is a folder ``ORG`` here, the name
    is taken for a path, whether it leads anywhere or not. ``HF_ENDPOINT``, ``HF_TOKEN``,
    ``HF_HOME`` and ``HF_HUB_OFFLINE`` work as everywhere in huggingface_hub.

    Raises:
        MissingError: no such folder, and the hub gives none.
    """
    folder, match = Path(named), _ID.fullmatch(str(named))
    if match is None or folder.exists() or folder.parent.exists():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HFValidationError,
        HTTPError,
    )

    try:
        return Path(
            snapshot_download(match["id"], revision=match["revision"], ignore_patterns=list(_LEFT))
        )
    except (HFValidationError, HTTPError, OSError) as error:
        said = str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
        raise MissingError(
            place=f"adapter {named}",
            problem=f"no such folder, and the hub gave none: {said}",
            remedy="mend the path or the id, or check the network (HF_ENDPOINT, HF_TOKEN)",
        ) from error
