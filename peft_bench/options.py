"""A method's options in a recipe, checked against PEFT's own configuration class."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from peft_bench import methods, schema
from peft_bench.errors import Faults

# Set by peft-bench itself, from the rest of the recipe; or, the last one, of a class of PEFT's that
# it makes from no mapping.
_RESERVED = (
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "inference_mode",
    "runtime_config",
)

_TOKENS = ("token_indices", "trainable_token_indices", "alora_invocation_tokens", "cpt_token_ids")


def check(method: str, options: object, faults: Faults) -> None:
    """Notes options that the method has not, values of another kind than its own, and such as
    JSON cannot say."""
    try:
        json.dumps(options, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        # YAML has dates, sets and keys of any kind; PEFT's options, and the recipe's hash, do not.
        faults.add(
            place="method.options",
            problem=f"holds a value that JSON cannot say: {error}",
            remedy="use texts, numbers, lists and mappings",
        )
    if not isinstance(options, Mapping) or not options:
        return
    known = _option_types(method)
    for key, value in options.items():
        place = f"method.options.{key}"
        if key in known:
            _check_kind(value, known[key], place, faults)
            _check_range(key, value, place, faults)
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        faults.add(
            place=place,
            problem=f"{method} has no such option",
            remedy=f"did you mean {near[0]}?"
            if near
            else f"its options: {', '.join(known) or 'none'}",
        )
    schema.check_positive(
        options.get("num_virtual_tokens"), "method.options.num_virtual_tokens", faults
    )


def _option_types(method: str) -> dict[str, Any]:
    """The fields of PEFT's configuration class of a method that a recipe may set, by type."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = PEFT_TYPE_TO_CONFIG_MAPPING.get(methods.peft_type(method))
    if config is None:
        return {}
    hints = get_type_hints(config)
    names = [name for name in config.__dataclass_fields__ if name not in _RESERVED]
    # Of one text PEFT takes every letter for a module's name.
    return {name: list[str] if name == "modules_to_save" else hints[name] for name in names}


def _check_kind(value: object, hint: Any, place: str, faults: Faults) -> None:
    """Notes a value that is of no kind which PEFT's type names.

    Kinds alone, since PEFT takes floats for integers, and texts that its types do not list.
    """
    wanted = _kinds(hint)
    if value is None or wanted & _kinds(type(value)):
        return
    number = schema.as_float(value) if "number" in wanted else None
    faults.add(
        place=place,
        problem=f"{value!r:.60} is not a {' or '.join(sorted(wanted))}",
        remedy=f"give a {' or '.join(sorted(wanted))}"
        + ("" if number is None else f": {number:g}, say"),
    )


def _check_range(key: str, value: object, place: str, faults: Faults) -> None:
    """Notes what PEFT takes without a word, and does not train, or fails at in the first step."""
    share = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if key.endswith("dropout") and not 0 <= share < 1:
        faults.add(
            place=place,
            problem=f"{value!r} is no share that can be dropped",
            remedy="give 0 or more, and less than 1",
        )
    if key in _TOKENS:
        lists = value.values() if isinstance(value, Mapping) else [value]
        tokens = [token for one in lists if isinstance(one, list) for token in one]
        for token in tokens:
            if type(token) is not int or token < 0:
                faults.add(
                    place=place,
                    problem=f"{token!r:.60} is no token's number",
                    remedy="give whole numbers, 0 or more",
                )


def _kinds(hint: Any) -> set[str]:
    """What a value of a type is in YAML."""
    if hint is Any:
        return {name for _, name in _KINDS} | {"mapping"}
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return set().union(*map(_kinds, get_args(hint)))
    kind = origin or hint
    if kind is Literal:
        return set().union(*(_kinds(type(value)) for value in get_args(hint)))
    if kind is types.NoneType:
        return set()
    for found, name in _KINDS:
        if issubclass(kind, found):
            return {name}
    return {"mapping"}  # a configuration of its own


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "true or false"),
    (int | float, "number"),
    (str, "text"),
    (list | tuple | set, "list"),
)
