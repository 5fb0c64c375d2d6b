"""YAML as recipes and grids hold it: plain data, and nothing in it dropped or half read.

PyYAML itself keeps the last of several values of one key, and fails with bare Python errors on
dates that there are not, integers of thousands of digits and deep nesting.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, UsageError


def read_yaml(file: Path, *, kind: str, known: str) -> object:
    """What a YAML file holds.

    Args:
        file: the file.
        kind: what it should be, such as ``recipe``.
        known: which ones there are, told where there is no such file.

    Raises:
        MissingError: there is no such file.
        UsageError: the file is not YAML, or gives a key twice.
    """
    try:
        return parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(place=str(file), problem=f"no such {kind}", remedy=known) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            place=str(file), problem=f"not a readable YAML file: {error}", remedy="mend the file"
        ) from None


def parse_yaml(text: str) -> object:
    """The value of a YAML text.

    Raises:
        ValueError: it is not YAML, gives a key twice, is nested too deeply, or holds a value that
            there is not, such as the date 2024-99-99.
    """
    import yaml

    try:
        return yaml.load(text, _loader())
    except yaml.MarkedYAMLError as error:
        raise ValueError(_told(error)) from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _told(error: Any) -> str:
    mark = error.problem_mark or error.context_mark
    said = " ".join(part for part in (error.context, error.problem) if part)
    return said if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {said}"


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            lines: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line = lines.get((key.tag, key.value))
                if line is not None:
                    raise yaml.composer.ComposerError(
                        None,
                        None,
                        f"the key {key.value} is there twice, first in line {line + 1}",
                        key.start_mark,
                    )
                lines[key.tag, key.value] = key.start_mark.line
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                value = super().construct_object(node, deep)
                if isinstance(value, str):
                    value.encode()  # the escapes of YAML can write what UTF-8 cannot
                if isinstance(value, int):
                    float(value)
            except (ValueError, OverflowError) as error:
                kind, why = node.tag.rpartition(":")[2], str(error).partition(":")[0]
                problem = f"{node.value!r:.40} cannot be read as {kind}: {why}"
                raise yaml.constructor.ConstructorError(
                    None, None, problem, node.start_mark
                ) from None
            return value

    return Loader
