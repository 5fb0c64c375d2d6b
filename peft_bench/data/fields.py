"""The fields of one raw row, read by kind; each fault is noted with its place and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_bench.errors import Faults
from peft_bench.jsonl import dump_json, parse_json

# Stands for a value whose fault was noted.
FAULTY: Any = object()


class Fields:
    """Reads a row's fields; what is faulty is noted, and a harmless value stands in for it.

    Args:
        value: the row.
        where: its place in the file, such as ``line 3``.
        faults: where faults are noted.
    """

    def __init__(self, value: Mapping[str, Any], where: str, faults: Faults) -> None:
        self.value = value
        self.where = where
        self._faults = faults
        self._before = len(faults)

    @property
    def sound(self) -> bool:
        """Whether no fault of this row was noted."""
        return len(self._faults) == self._before

    def fault(self, key: str, problem: str, remedy: str) -> None:
        """Notes a fault of a field."""
        self._faults.add(place=f"{self.where}: {key}", problem=problem, remedy=remedy)

    def text(self, key: str, *, may_be_empty: bool = False, remedy: str = "give a text") -> str:
        """A text that must be there, and hold more than blanks unless ``may_be_empty``."""
        text = self.value.get(key)
        if not isinstance(text, str):
            problem = (
                "is missing" if key not in self.value else f"is {type(text).__name__}, not text"
            )
            self.fault(key, problem, remedy)
            return ""
        if not may_be_empty and not text.strip():
            self.fault(key, "is empty", "fill it or drop the row")
        self._check_unicode(key, text)
        return text

    def optional_text(self, key: str) -> str:
        """A text, or "" where it is missing or null."""
        return "" if self.value.get(key) is None else self.text(key, may_be_empty=True)

    def identity(self, *keys: str) -> str:
        """The first of the keys that the row has, a number or a text, as text."""
        key = next((key for key in keys if self.value.get(key) is not None), keys[0])
        value = self.value.get(key)
        if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
            problem = "is missing" if value is None else f"is {value!r:.40}, not an id"
            self.fault(key, problem, "give a number or a text")
            return ""
        self._check_unicode(key, str(value))
        return str(value)

    def texts(self, key: str, *, least: int = 0, remedy: str = "give a list of texts") -> list[str]:
        """A list of texts, given as such or as JSON text; missing, null and "" are no texts."""
        value = self.json(key, remedy=remedy)
        if value is FAULTY:
            return []
        value = [] if value is None else value
        if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
            self.fault(key, "is not a list of texts", remedy)
            return []
        if len(value) < least:
            self.fault(key, "is empty" if key in self.value else "is missing", remedy)
        for text in value:
            self._check_unicode(key, text)
        return list(value)

    def json(self, key: str, *, remedy: str) -> Any:
        """A value given as such or as JSON text: None where it is missing, null or blank.

        :data:`FAULTY` where it is no JSON, which is noted.
        """
        value = self.value.get(key)
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            return parse_json(value)
        except ValueError as error:
            self.fault(key, f"is not JSON: {error}", remedy)
            return FAULTY

    def _check_unicode(self, key: str, text: str) -> None:
        """Notes half of a surrogate pair, which JSON can escape and no tokenizer reads."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            self.fault(key, f"holds {half!r}, half of a character", "mend it or drop the row")

    def json_text(self, key: str, value: Any) -> str:
        """The field as JSON text: as it is where it is a text, else ``value`` written anew."""
        raw = self.value.get(key)
        return raw if isinstance(raw, str) else "" if value is None else dump_json(value)
