"""Ten beams a prompt: the harness' way with our search, beside one plain ``generate`` a prompt.

Sides take turns over the same prompts, in one process; CPU seconds are the process' own. Both
search with the same stop tokens, so that their beams can be compared: equal, or of equal score
within 1e-4. The study's scripts stop at a newline only after the search; ``afterwards`` is that.

    PEFT_BENCH_DATA=DIR python benchmarks/beams.py [--prompts 48] [--batch-size 16] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

TIE = 1e-4
BEAMS = 10
NEW_TOKENS = 64

Beams = list[list[tuple[str, float]]]


class Subject:
    """A model with the prompts that it is asked."""

    def __init__(self, pretrained: str, prompts: int, batch_size: int) -> None:
        from lm_eval.models.huggingface import HFLM

        from peft_bench import data, harness

        self.lm = HFLM(pretrained=pretrained, dtype="float32", device="cpu", batch_size=batch_size)
        template = harness.choose_prompt(pretrained=pretrained)
        rows = data.load_split("conala", "test").rows
        step = max(1, len(rows) // prompts)
        self.prompts = [template.render(row.nl) for row in rows[::step]][:prompts]

    def plain(self, newline: str) -> Beams:
        """One prompt a batch, ten beams; ``newline`` ends a beam "inside" or "afterwards"."""
        tokenizer, found = self.lm.tokenizer, []
        stops = [tokenizer.eos_token_id]
        if newline == "inside":
            stops += [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
        for prompt in self.prompts:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            result = self.lm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
                max_new_tokens=NEW_TOKENS,
                eos_token_id=stops,
                pad_token_id=tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_scores=True,
            )
            texts = tokenizer.batch_decode(
                result.sequences[:, ids.shape[1] :], skip_special_tokens=True
            )
            scores = result.sequences_scores.tolist()
            found.append([(t.split("\n")[0], s) for t, s in zip(texts, scores, strict=True)])
        return found

    def ours(self) -> Beams:
        """The harness' own loop over a beam task's requests."""
        from datasets import Dataset

        from peft_bench.beams import BeamTask

        rows = Dataset.from_dict({"prompt": self.prompts})
        task = BeamTask(
            {
                "task": "beams",
                "custom_dataset": lambda **_: {"test": rows},
                "test_split": "test",
                "doc_to_text": "{{prompt}}",
                "doc_to_target": "",
                "output_type": "generate_until",
                "generation_kwargs": {
                    "until": ["\n"],
                    "do_sample": False,
                    "num_beams": BEAMS,
                    "max_gen_toks": NEW_TOKENS,
                },
                "process_results": lambda doc, results: {},
                "metric_list": [],
                "metadata": {"pretrained": self.lm.pretrained},
            }
        )
        requests = [
            request
            for number, prompt in enumerate(self.prompts)
            for request in task.construct_requests(
                {}, prompt, metadata=("beams", number, 1), doc_id=number
            )
        ]
        answers = self.lm.generate_until(requests, disable_tqdm=True)
        for request, answer in zip(requests, answers, strict=True):
            request.resps.append(answer)
        task._instances = requests
        task.apply_filters()
        beams = [(str(one.resps[0]), one.resps[0].score) for one in requests]
        return [beams[i : i + BEAMS] for i in range(0, len(beams), BEAMS)]


def differences(mine: Beams, theirs: Beams) -> tuple[int, int]:
    """Beams that differ: in ties, and otherwise."""
    ties = wrong = 0
    for one, other in zip(mine, theirs, strict=True):
        for (text, score), (expected, reference) in zip(one, other, strict=True):
            if text == expected and abs(score - reference) < TIE:
                continue
            tied = {t for t, s in other if abs(s - reference) < TIE} | {
                t for t, s in other if t == text and abs(s - score) < TIE
            }
            # The last places can go to either of two candidates that are as good.
            if text in tied or abs(score - reference) < TIE:
                ties += 1
            else:
                wrong += 1
    return ties, wrong


def main() -> int:
    """Prints a Markdown table; 1 when beams differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", help="default: SmolLM2-135M")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sides", default="inside,afterwards,ours")
    options = parser.parse_args()
    from peft_bench import smollm2

    torch.set_num_threads(options.threads)
    subject = Subject(options.model or smollm2.locate(), options.prompts, options.batch_size)
    sides: dict[str, Any] = {
        "inside": lambda: subject.plain("inside"),
        "afterwards": lambda: subject.plain("afterwards"),
        "ours": lambda: subject.ours(),
    }
    names = options.sides.split(",")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    beams: dict[str, Beams] = {}
    for number in range(options.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.process_time()
            beams[name] = sides[name]()
            seconds[name].append(time.process_time() - start)
            print(f"round {number + 1} {name}: {seconds[name][-1]:.1f} CPU s", flush=True)
    rates = {name: len(subject.prompts) / statistics.median(s) for name, s in seconds.items()}
    print("\n| side | prompts a CPU second | times |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.3f} | {rates.get('ours', rate) / rate:.2f} |")
    ties = wrong = 0
    if "inside" in beams and "ours" in beams:
        ties, wrong = differences(beams["ours"], beams["inside"])
        total = len(subject.prompts) * BEAMS
        print(f"\n{total} beams; other order among ties: {ties}; different: {wrong}")
    if options.json:
        kept = {"seconds": seconds, "rates": rates, "ties": ties, "different": wrong}
        options.json.write_text(json.dumps({**vars(options), "json": None, **kept}))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
