"""What our harness tasks share: examples in the prompt, chat templates, and their record.

Which examples, and in what form: :mod:`peft_bench.examples`. See docs/shots.md.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from lm_eval.api.task import ConfigurableTask

from peft_bench import cards
from peft_bench.answers import Answer
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.examples import INSTRUCTION, Choice, Doc, Pool, Shots, plain_prompt
from peft_bench.fences import first_block
from peft_bench.hub_adapters import adapter_folder
from peft_bench.prompts import CHAT
from peft_bench.quirks import QUIRKS, active_quirks

_log = logging.getLogger(__name__)
# What ``--metadata`` may say to our tasks, besides model arguments and a task's own settings.
_KNOWN = (
    "data_dir", "first", "gold", "header", "level", "other_prompt", "profile", "prompt", "quirks",
    "retriever", "retriever_device", "sandbox", "sandbox_profile", "shots", "shots_order",
)  # fmt: skip
_NEXT_EXAMPLE = "\n### Instruction:"


class ShotsMixin(ConfigurableTask):  # type: ignore[misc]
    """What our task classes share: examples in the prompt, chat templates, and their record.

    Attributes:
        data: the data set's name, which says what quirks there are.
        header: the line before the examples.
        chat_instruction: what stands before the intent in the user's turn.
        chat: whether a chat template is applied; known from ``build_all_requests`` on.
    """

    data: ClassVar[str] = ""
    header: ClassVar[str] = INSTRUCTION
    chat_instruction: ClassVar[str] = f"{INSTRUCTION} Answer with the code alone."

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        settings = dict(config or {})
        settings.pop("class", None)
        metadata = settings.get("metadata") or {}
        source = self.data or str(metadata.get("data", ""))
        named = {key: metadata[key] for key in ("profile", "quirks") if key in metadata}
        self._prompt_quirks = active_quirks(source, **named)
        for remark in _remarks(metadata, source):
            _log.warning("%s: %s", settings.get("task"), remark)
        self._choice = Choice.parse(metadata, self._prompt_quirks)
        self._fewshot_seed: Any = None
        self._shots: Shots | None = None
        self._shown: dict[str, tuple[list[str], int]] = {}
        self.chat = False
        super().__init__(config=settings)
        self._until = stop_strings(self.config.generation_kwargs)

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        """The harness' fourth seed."""
        super().set_fewshot_seed(seed=seed)
        self._fewshot_seed = seed
        self._shots = None

    def build_all_requests(self, **kwargs: Any) -> None:
        """As the harness', with the form of the prompts settled first.

        Raises:
            PeftBenchError: a chat template for an adapter that was trained without one.
        """
        metadata = self.config.metadata or {}
        # Saved answers that are scored again bring the note that dump_config() left.
        self.chat = bool(kwargs.get("apply_chat_template") or metadata.get("chat"))
        if kwargs.get("apply_chat_template"):
            check_chat(metadata)
        elif not self.chat:
            check_plain(metadata)
        if kwargs.get("cache_requests"):
            _log.warning(
                "%s: --cache_requests is left out: its key names neither prompt nor seed",
                self.config.task,
            )
            kwargs["cache_requests"] = False
        self._settle_until()
        self._shown.clear()
        if not self.config.num_fewshot and (self._choice.retriever or "shots_order" in metadata):
            _log.warning("%s: no examples are shown: give --num_fewshot N", self.config.task)
        if self.config.num_fewshot and "bypass" not in self._metric_fn_list:
            for name, aggregation in (("shots", _count), ("shots_excluded", sum)):
                self._aggregation_list[name] = aggregation
                self._higher_is_better[name] = name == "shots"
        super().build_all_requests(**kwargs)

    def _settle_until(self) -> None:
        settings = self.config.generation_kwargs
        if settings is None or stop_strings(settings) != self._until:
            return  # somebody's own, by --gen_kwargs
        if self.chat:
            # A fenced answer holds newlines, and a chat model ends its turn by itself.
            settings["until"] = []
        elif (
            self.config.num_fewshot
            and "\n" not in self._until
            and "runs_on" not in self._prompt_quirks
        ):
            # A model that was shown examples goes on with another one.
            settings["until"] = [*self._until, _NEXT_EXAMPLE]

    def fewshot_context(
        self,
        doc: dict[str, Any],
        num_fewshot: int = 0,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,
        chat_template: Callable[..., str] | None = None,
        gen_prefix: str | None = None,
    ) -> str:
        """The whole prompt of a document: system text, examples, question."""
        shots = self._examples(doc, num_fewshot)
        if not (apply_chat_template and chat_template):
            text = self._plain(doc, shots, always=self._choice.header == "always")
            system = f"{system_instruction}\n" if system_instruction else ""
            return system + text + (gen_prefix or "")
        turns: list[tuple[str, str]] = []
        if system_instruction:
            turns.append(("system", system_instruction))
        if shots and not fewshot_as_multiturn:
            turns.append(("user", self._plain(doc, shots, always=True)))
        else:
            for shot in shots:
                answer = self.chat_answer(shot)
                turns += [("user", self.chat_question(shot)), ("assistant", answer)]
            turns.append(("user", self.chat_question(doc)))
        if gen_prefix:
            turns.append(("assistant", gen_prefix))
        messages = [{"role": role, "content": content} for role, content in turns]
        return chat_template(messages, add_generation_prompt=not gen_prefix)

    def _plain(self, doc: Doc, shots: Sequence[Doc], *, always: bool) -> str:
        wanted = always or (shots and self._choice.header == "shots")
        return plain_prompt(
            doc["prompt"],
            [(shot["prompt"], shot["cmd"]) for shot in shots],
            header=self.header if wanted else "",
            quirks=self._prompt_quirks,
        )

    def chat_question(self, doc: Doc) -> str:
        """The user's turn: what is to be done, then the intent."""
        return f"{self.chat_instruction}\n\n{doc['nl'].strip()}"

    def chat_answer(self, doc: Doc) -> str:
        """The assistant's turn of an example."""
        return str(doc["cmd"])

    def _examples(self, doc: Doc, count: int) -> list[Doc]:
        if not count:
            return []
        if self._shots is None:
            self._shots = self._build_shots()
        shots = self._shots.choose(doc, count)
        excluded = len(self._shots.pool.duplicates(doc))
        self._shown[doc["id"]] = ([shot["id"] for shot in shots], excluded)
        return shots

    def _build_shots(self) -> Shots:
        split = self.fewshot_cfg.split
        if split is None or split == self.config.test_split:
            # The harness would take rows of the test split.
            raise UsageError(
                place=f"--num_fewshot {self.config.num_fewshot}",
                problem=f"{self.config.task} has no examples to show",
                remedy="leave it out",
            )
        pool = Pool(list(self.fewshot_docs()))
        queries = list(self.eval_docs["nl"])
        return Shots(pool, self._choice, self._fewshot_seed, queries)

    def apply_filters(self) -> Any:
        """As the harness'; with a chat template, code comes out of its fence."""
        filtered = super().apply_filters()
        if self.chat:
            for instance in self._instances:
                for name, answer in instance.filtered_resps.items():
                    if isinstance(answer, str):
                        instance.filtered_resps[name] = first_block(Answer.of(answer))
        return filtered

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """The task's scores, and which examples the document was shown."""
        return {**super().process_results(doc, results), **self.shots_shown(doc)}

    def shots_shown(self, doc: Doc) -> dict[str, Any]:
        """``shots`` (ids of the examples shown) and ``shots_excluded`` (the pool's duplicates of
        the document); nothing where no example was shown. For tasks that score by themselves.
        """
        shown = self._shown.get(doc["id"])
        if shown is None or "shots" not in self._aggregation_list:
            return {}
        return {"shots": shown[0], "shots_excluded": shown[1]}

    def dump_config(self) -> dict[str, Any]:
        """The harness' record of the task, with what the prompts were made of."""
        config: dict[str, Any] = super().dump_config()
        facts: dict[str, Any] = {}
        if self._shots is not None:
            pool = self._shots.pool
            facts["examples"] = {
                "count": self.config.num_fewshot,
                "chosen": self._shots.about,
                "order": self._choice.order if self._choice.retriever else None,
                "seed": None if self._choice.retriever else self._fewshot_seed,
                "pool": len(pool),
                "pool_sha256": pool.sha256,
                "pool_repeats": pool.repeats,
                "pool_without_code": pool.without_code,
                "header": self._choice.header,
            }
        if self.chat:
            facts["chat"] = {"instruction": self.chat_instruction, "answers": "first fenced block"}
        config["metadata"] = {**(config.get("metadata") or {}), **facts}
        return config


def _remarks(metadata: Mapping[str, Any], source: str) -> Iterator[str]:
    """What the metadata, which is sound, says to no effect: names that are nearly ours, quirks of
    other data."""
    for name in metadata:
        near = difflib.get_close_matches(str(name), _KNOWN, n=1, cutoff=0.85)
        if near and name not in _KNOWN:
            yield f"--metadata {name} says nothing to this task; did you mean {near[0]}?"
    named = metadata.get("quirks") or ()
    for name in named.split("+") if isinstance(named, str) else named:
        if source not in QUIRKS[name].data:
            yield f"--metadata quirks={name} is none of {source or 'this task'}'s"


def stop_strings(generation_kwargs: Mapping[str, Any] | None) -> list[str]:
    """``until`` of generation arguments: the harness takes one text as well as a list."""
    until = (generation_kwargs or {}).get("until") or []
    return [until] if isinstance(until, str) else list(until)


def check_chat(metadata: Mapping[str, Any]) -> None:
    """Stops when an adapter trained on a plain prompt would be asked through a chat template.

    ``--metadata '{"other_prompt": true}'`` asks anyway.

    Raises:
        PeftBenchError: naming the prompt that it was trained with.
    """
    peft, card = _card(metadata)
    if card is None or card.prompt.name == CHAT:
        return
    raise PeftBenchError(
        place=f"adapter {peft}",
        problem=f"was trained with the prompt {card.prompt.name} {card.prompt.text!r}, "
        "but would be asked through a chat template",
        remedy="leave --apply_chat_template out, or ask anyway with "
        "--metadata '{\"other_prompt\": true}'",
    )


def check_plain(metadata: Mapping[str, Any]) -> None:
    """Stops when an adapter trained through a chat template would be asked without one.

    Raises:
        PeftBenchError: as :func:`check_chat`.
    """
    peft, card = _card(metadata)
    if card is not None and card.prompt.name == CHAT:
        raise PeftBenchError(
            place=f"adapter {peft}",
            problem="was trained through its base's chat template, but would be asked without",
            remedy="ask with --apply_chat_template, or anyway with "
            "--metadata '{\"other_prompt\": true}'",
        )


def _card(metadata: Mapping[str, Any]) -> tuple[str, cards.AdapterCard | None]:
    peft = metadata.get("peft")
    if not isinstance(peft, str) or metadata.get("other_prompt"):
        return "", None
    return peft, cards.read_card(adapter_folder(peft))


def _count(lists: Sequence[Sequence[Any]]) -> int:
    return sum(map(len, lists))
