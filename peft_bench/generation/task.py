"""What beam tasks and sampled tasks share as tasks of the harness."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance

from peft_bench.answers import Answer
from peft_bench.generation import host
from peft_bench.generation.callable import Generation
from peft_bench.model_source import ModelSource
from peft_bench.scoring import LoggedAnswers
from peft_bench.shots import ShotsMixin


class GeneratedTask(LoggedAnswers, ShotsMixin):
    """A task that makes several requests a document, and hands ``generate`` a callable.

    Filters and ``process_results`` receive :class:`peft_bench.answers.Answer`.
    """

    #: the generation argument that numbers a document's requests
    number: str

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        settings = dict(config or {})
        settings.pop("class", None)
        super().__init__(config=settings)
        self._host: Any = None
        metadata = self.config.metadata or {}
        self._generation = self.make_callable(
            source=ModelSource.of(metadata), peft=metadata.get("peft")
        )

    def make_callable(self, **source: Any) -> Generation:
        """The callable for this task; ``source`` is for :class:`Generation`."""
        raise NotImplementedError

    def arguments(self) -> list[dict[str, Any]]:
        """The generation arguments of a document's requests, in order."""
        raise NotImplementedError

    def check_host(self, model: Any | None) -> None:
        """Refuses models that cannot do this task."""

    def check_answers(self) -> None:
        """Called where answers came and the callable never was: from a cache, or from elsewhere."""

    @property
    def truncated_prompts(self) -> int:
        """How many prompts of this run did not fit in the model's context, and were cut."""
        return len(self._generation.ledger.truncated)

    def dump_config(self) -> dict[str, Any]:
        """As the harness', with the number of prompts that were cut."""
        config: dict[str, Any] = super().dump_config()
        if self.truncated_prompts:
            facts = {"truncated_prompts": self.truncated_prompts}
            config["metadata"] = {**(config.get("metadata") or {}), **facts}
        return config

    def build_all_requests(self, **kwargs: Any) -> None:
        """As the harness', once the model is known to be able to answer."""
        self._host = host.running_model()
        self.check_host(self._host)
        self._generation.ledger.go_on(str(self.config.task))
        super().build_all_requests(**kwargs)
        # Requests from the harness' request cache hold the arguments of the run that built them.
        current = self.arguments()
        for instance in self._instances:
            instance.arguments = (instance.arguments[0], dict(current[instance.idx]))

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """The document's requests, numbered."""
        kwargs.pop("apply_chat_template", None)
        kwargs.pop("chat_template", None)
        return [
            Instance(
                request_type="generate_until",
                doc=doc,
                arguments=(ctx, given),
                idx=number,
                **kwargs,
            )
            for number, given in enumerate(self.arguments())
        ]

    def apply_filters(self) -> list[Instance] | None:
        """As the harness', with answers that know how they were made.

        Raises:
            UsageError: a model that cannot do this task answered after all.
        """
        if not self._generation.called:
            self.check_answers()
        ledger, tokenizer = self._generation.ledger, self._generation.tokenizer
        for instance in self._instances:
            # A distributed run repeats requests so that all ranks have as many.
            [text, *_] = instance.resps
            if not isinstance(text, Answer):
                if tokenizer is None:
                    text = Answer.of(text)
                else:
                    number = int(instance.arguments[1].get(self.number, 0))
                    text = ledger.find(tokenizer, instance.arguments[0], number, text)
            instance.resps = [text]
        ledger.tell_truncated(str(self.config.task))
        filtered: list[Instance] | None = super().apply_filters()
        return filtered
