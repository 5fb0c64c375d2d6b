"""What our harness tasks share: their rows with prompts, and the agreement with training.

A task's ``custom_dataset`` receives the harness' metadata, which holds the model arguments as
typed, so that the prompt of the model's family can be chosen and an adapter's card be compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft_bench import cards, data, prompts
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.families import prompt_name
from peft_bench.hub_adapters import adapter_folder
from peft_bench.model_source import ModelSource
from peft_bench.raw_codegen2 import refuse_raw_codegen2


def dataset(
    task: str,
    /,
    *,
    select: Callable[[tuple[data.Row, ...]], tuple[data.Row, ...]] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """The splits of a task as ``datasets.Dataset``: ``test``, and ``train`` where there is one.

    Columns: ``id``, ``nl``, ``cmd``, ``question_id``, ``prompt`` (rendered), ``test`` where there
    are any, and the rows' extras. A row's own field that has the name of one of these columns
    (HumanEval's and ODEX's ``prompt``) becomes ``source_<name>``. MBPP has a split ``prompt`` too.

    Args:
        task: a name of :data:`peft_bench.data.SOURCES`.
        select: which of the test split's rows are asked, as a function of them all.
        metadata: the harness' (``pretrained``, ``peft``, ``revision``, ...), and from
            ``--metadata``: ``data_dir`` (a folder of rows) and ``prompt`` (a template's name);
            ``docs``, a file of documents to score once more, stands for all of it.

    Raises:
        PeftBenchError: the adapter named by ``peft`` was trained with another prompt.
    """
    from datasets import Dataset

    if "docs" in metadata:
        return _saved(Path(metadata["docs"]), data.SOURCES[task].splits)
    template = choose_prompt(**metadata)
    check_prompt(template, metadata.get("peft"))
    splits: dict[str, Any] = {}
    for name in data.SOURCES[task].splits:
        if name == "validation":
            continue  # adapters are chosen by it, and no task asks it
        rows = data.load_split(task, name, data_dir=metadata.get("data_dir")).rows
        if select is not None and name == "test":
            rows = select(rows)
        splits[name] = Dataset.from_dict(_columns(rows, template))
    return splits


def _saved(file: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Documents of a run, as it asked them; the other splits are not needed, but must be there."""
    from datasets import Dataset

    with file.open(encoding="utf-8", newline="\n") as lines:
        documents = [json.loads(line) for line in lines]
    return {name: Dataset.from_list(documents) for name in splits}


def _columns(rows: Sequence[data.Row], template: prompts.PromptTemplate) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        key: [getattr(row, key) for row in rows] for key in ("id", "nl", "cmd", "question_id")
    }
    columns["prompt"] = [template.render(row.nl) for row in rows]
    if any(row.test for row in rows):
        columns["test"] = [row.test for row in rows]
    taken = set(columns)
    for key in dict.fromkeys(key for row in rows for key in row.extra):
        name = f"source_{key}" if key in taken else key
        columns[name] = [row.extra.get(key) for row in rows]
    return columns


def choose_prompt(*, prompt: Any = None, **metadata: Any) -> prompts.PromptTemplate:
    """The prompt named in the metadata, else the one of the model's family.

    It is that of most families, ``instruction``, where the model is served elsewhere.

    Raises:
        UsageError: no prompt has that name.
    """
    if prompt is not None:
        if not isinstance(prompt, str) or prompt not in prompts.PROMPTS:
            raise UsageError(
                place="--metadata prompt",
                problem=f"no prompt is named {prompt!r}",
                remedy=f"known: {', '.join(prompts.PROMPTS)}",
            )
        return prompts.PROMPTS[prompt]
    source = ModelSource.of(metadata)
    if source.model is None:
        return prompts.PROMPTS["instruction"]
    config = source.load_config()
    refuse_raw_codegen2(config, source.model)
    name = prompt_name(config.model_type, is_encoder_decoder=config.is_encoder_decoder)
    return prompts.PROMPTS[name]


def check_prompt(template: prompts.PromptTemplate, peft: Any) -> None:
    """Stops when an adapter with a card was trained with another prompt than it would be asked.

    Raises:
        PeftBenchError: showing both prompts.
        MissingError: no such adapter.
    """
    if not isinstance(peft, str):
        return
    card = cards.read_card(adapter_folder(peft))
    if card is None or card.prompt.sha256 == template.sha256:
        return
    raise PeftBenchError(
        place=f"adapter {peft}",
        problem=f"was trained with the prompt {card.prompt.name} {card.prompt.text!r} "
        f"(sha256 {card.prompt.sha256[:16]}), but would be asked with {template.name} "
        f"{template.text!r} (sha256 {template.sha256[:16]})",
        remedy=f'ask with --metadata \'{{"prompt": "{card.prompt.name}"}}\', or train it anew',
    )


def sandbox_level(**metadata: Any) -> str | None:
    """The sandbox level that our executing tasks run at: the best of this machine, by name.

    ``--metadata sandbox=LEVEL`` asks for a level by name. None: nothing can be executed here.

    Raises:
        MissingError: the level asked for is not to be had here.
    """
    from peft_bench_sandbox import Level, best_level

    best = best_level()
    asked = metadata.get("sandbox")
    if asked is not None:
        if asked not in list(Level) or Level(asked) > best:
            raise MissingError(
                place=f"--metadata sandbox={asked}",
                problem=f"this machine's best sandbox level is {best.value!r}",
                remedy="see `peft-bench doctor`, or ask for less",
            )
        best = Level(asked)
    return None if best is Level.NONE else best.value
