"""What our harness tasks share: their rows with prompts, and the agreement with training.

A task's ``custom_dataset`` receives the harness' metadata, which holds the model arguments as
typed, so that the prompt of the model's family can be chosen and an adapter's card be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft_bench import cards, data, prompts
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.families import prompt_name
from peft_bench.paths import tasks_dir


def dataset(task: str, **metadata: Any) -> dict[str, Any]:
    """Splits ``train`` and ``test`` of a task as ``datasets.Dataset``.

    Columns: ``id``, ``nl``, ``cmd``, ``question_id``, ``prompt``, and ``test`` where there are any.

    Args:
        task: a name of :data:`peft_bench.data.SOURCES`.
        metadata: the harness' (``pretrained``, ``peft``, ``revision``, ...), and from
            ``--metadata``: ``data_dir`` (a folder of rows) and ``prompt`` (a template's name).

    Raises:
        PeftBenchError: the adapter named by ``peft`` was trained with another prompt.
    """
    from datasets import Dataset

    template = choose_prompt(**metadata)
    check_prompt(template, metadata.get("peft"))
    splits: dict[str, Any] = {}
    for name in ("train", "test"):
        split = data.load_split(task, name, data_dir=metadata.get("data_dir"))
        columns = ["id", "nl", "cmd", "question_id"]
        rows: dict[str, list[Any]] = {
            key: [getattr(row, key) for row in split.rows] for key in columns
        }
        rows["prompt"] = [template.render(row.nl) for row in split.rows]
        if any(row.test for row in split.rows):
            rows["test"] = [row.test for row in split.rows]
        splits[name] = Dataset.from_dict(rows)
    return splits


def choose_prompt(
    *, prompt: str | None = None, pretrained: Any = None, revision: str | None = None, **_: Any
) -> prompts.PromptTemplate:
    """The prompt named in the metadata, else the one of the model's family.

    Raises:
        UsageError: no prompt has that name.
    """
    if prompt is not None:
        if prompt not in prompts.PROMPTS:
            raise UsageError(
                place="--metadata prompt",
                problem=f"no prompt is named {prompt!r}",
                remedy=f"known: {', '.join(prompts.PROMPTS)}",
            )
        return prompts.PROMPTS[prompt]
    if not isinstance(pretrained, str):
        return prompts.PROMPTS["instruction"]
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(pretrained, revision=revision)
    name = prompt_name(config.model_type, is_encoder_decoder=config.is_encoder_decoder)
    return prompts.PROMPTS[name]


def check_prompt(template: prompts.PromptTemplate, peft: Any) -> None:
    """Stops when an adapter with a card was trained with another prompt than it would be asked.

    Raises:
        PeftBenchError: showing both prompts.
    """
    if not isinstance(peft, str) or not Path(peft).is_dir():
        return
    card = cards.read_card(Path(peft))
    if card is None or card.prompt.sha256 == template.sha256:
        return
    raise PeftBenchError(
        place=f"adapter {peft}",
        problem=f"was trained with the prompt {card.prompt.name} {card.prompt.text!r} "
        f"(sha256 {card.prompt.sha256[:16]}), but would be asked with {template.name} "
        f"{template.text!r} (sha256 {template.sha256[:16]})",
        remedy=f'ask with --metadata \'{{"prompt": "{card.prompt.name}"}}\', or train it anew',
    )


def task_config(task: str) -> dict[str, Any] | None:
    """The YAML of one of our tasks, functions left as names; None for the harness' own tasks."""
    from lm_eval.tasks._yaml_loader import load_yaml

    file = tasks_dir() / task / f"{task}.yaml"
    if not file.is_file():
        return None
    config: dict[str, Any] = load_yaml(file, resolve_func=False)
    return config


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
