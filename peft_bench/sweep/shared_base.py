"""Evaluations of several adapters of one base load it once, with the scores of separate runs.

The harness builds a model anew for each evaluation. Within :func:`shared_base` ours takes the
base that the evaluation before has left behind, put back as it was loaded
(:mod:`peft_bench.sweep.snapshot`), where it is the same one; else it loads it, and keeps it in
place of the other. A base that cannot be put back is loaded again: so are 4-bit ones on a CPU,
whose weights bitsandbytes packs anew in place.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from peft_bench import catalog, paths, verified_model
from peft_bench.sweep.snapshot import Snapshot
from peft_bench.verified_model import VerifiedHFLM

_NAME = "peft-bench-shared"


class Kept:
    """At most one base in memory, with what is needed to put it back."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._model: Any = None
        self._snapshot: Snapshot | None = None
        self.loaded = 0
        """How many bases were loaded so far."""

    def take(self, key: str) -> Any | None:
        """The base of that key as it was loaded; None, and nothing is kept, where it is another."""
        if self._snapshot is not None and key == self._key and self._snapshot.restore():
            return self._model
        self.drop()
        return None

    def keep(self, key: str, model: Any) -> None:
        """Keeps a base that was just loaded, unless parts of it are not in memory."""
        self.loaded += 1
        if all(parameter.device.type != "meta" for parameter in model.parameters()):
            self._key, self._model, self._snapshot = key, model, Snapshot(model)

    def drop(self) -> None:
        """Gives its memory back."""
        import torch

        self._key = self._model = self._snapshot = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _KeepingHFLM(HFLM):  # type: ignore[misc]
    """The harness' model, whose base comes from ``kept``. Stands below our verifying one."""

    kept: ClassVar[Kept | None] = None
    _model: Any

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        kept = type(self).kept
        card = VerifiedHFLM.expected.card
        if kept is None or (card is not None and VerifiedHFLM.expected.adapter is None):
            # A fully tuned model is scored once; a base beside it would only take its memory.
            if kept is not None:
                kept.drop()
            super()._create_model(pretrained, **kwargs)
            return
        key = json.dumps([pretrained, kwargs], default=_describe, sort_keys=True)
        model = kept.take(key)
        if model is None:
            super()._create_model(pretrained, **kwargs)
            kept.keep(key, self._model)
        else:
            self._model = model


@register_model(_NAME)
class SharedHFLM(VerifiedHFLM, _KeepingHFLM):
    """Our verifying model on a base that is kept."""

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        super()._create_model(pretrained, **kwargs)
        VerifiedHFLM.facts = type(self).facts  # where evaluate() looks for them


def _describe(value: Any) -> Any:
    tell = getattr(value, "to_dict", None)
    return str(value) if tell is None else tell()


@contextmanager
def shared_base() -> Iterator[Kept]:
    """Within it, :func:`peft_bench.evaluate` loads a base anew only where it is another one."""
    from torch.utils import collect_env

    kept = Kept()
    with (
        # The harness has a dozen programs run for each record, to tell an environment that stays.
        _put(collect_env, "get_pretty_env_info", cache(collect_env.get_pretty_env_info)),
        _put(verified_model, "MODEL_NAME", _NAME),
        _put(_KeepingHFLM, "kept", kept),
    ):
        try:
            yield kept
        finally:
            kept.drop()


@contextmanager
def known_tasks(tasks: Sequence[str]) -> Iterator[None]:
    """Within it, the harness looks through our tasks only, if they are all that is asked.

    It reads thousands of files of its own tasks for each evaluation: seconds of CPU time.
    """
    from lm_eval.tasks import TaskManager

    if any(catalog.task_config(task) is None for task in catalog.leaf_tasks(tasks)):
        yield
        return
    build = TaskManager.__init__

    def only_ours(self: Any, *args: Any, **named: Any) -> None:
        named |= {"include_defaults": False, "include_path": str(paths.tasks_dir())}
        build(self, *args, **named)

    with _put(TaskManager, "__init__", only_ours):
        yield


@contextmanager
def _put(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value in an attribute, for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
