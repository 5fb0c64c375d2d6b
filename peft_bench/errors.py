"""Errors meant for people: where it happened, what is wrong, what to do about it.

The command line prints ``str(error)`` and leaves with ``error.exit_code``; a traceback is for
faults of the program itself, never for a faulty recipe or a missing file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PeftBenchError(Exception):
    """A failure told in three parts, printed as ``place: problem. remedy``.

    Args:
        place: The file, field, flag or step concerned, such as ``recipe.yaml: training.epochs``.
        problem: What is wrong there, naming the value found.
        remedy: What the reader can do; may be empty when there is nothing to do.
    """

    exit_code = 1

    def __init__(self, *, place: str, problem: str, remedy: str = "") -> None:
        super().__init__(place, problem, remedy)
        self.place = place
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        said = ": ".join(
            part for part in (_bare(self.place, ":"), _bare(self.problem, ".")) if part
        )
        remedy = self.remedy.strip()
        if not remedy:
            return said
        if remedy[-1] not in ".?!":
            remedy += "."
        return f"{said}. {remedy}" if said else remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by Exception's own pickling, and errors of sweeps cross
        # process borders; copying the attributes is enough, whatever the subclass.
        return (_revive, (type(self), dict(self.__dict__)))


class UsageError(PeftBenchError):
    """What the user wrote is faulty: a recipe, a flag, an input file.

    ``faults`` holds the single errors when several were collected by :class:`Faults`, else nothing.
    """

    exit_code = 2

    def __init__(
        self,
        *,
        place: str,
        problem: str,
        remedy: str = "",
        faults: tuple[PeftBenchError, ...] = (),
    ) -> None:
        super().__init__(place=place, problem=problem, remedy=remedy)
        self.faults = faults

    def __str__(self) -> str:
        return "\n  ".join([super().__str__(), *(str(fault) for fault in self.faults)])


class MissingError(PeftBenchError):
    """Something needed is not there: a package, a file, a model, the hub, a sandbox level."""

    exit_code = 3


@contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Within, what is written is where a flag says: what the system has against it is told so.

    Raises:
        UsageError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            place=f"{flag} {path}",
            problem=f"cannot be written ({error.strerror or error})",
            remedy="name another place, in a folder that is there and can be written",
        ) from error


class Faults:
    """Collects the faults of one thing, so that all are told at once rather than one a run.

    Args:
        place: The thing as a whole, such as the path of a recipe; stands before every fault.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._found: list[PeftBenchError] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, *, place: str, problem: str, remedy: str = "") -> None:
        """Notes one fault; ``place`` is the field within the thing."""
        self._found.append(PeftBenchError(place=place, problem=problem, remedy=remedy))

    def raise_if_any(self) -> None:
        """Does nothing when no fault was noted.

        Raises:
            UsageError: with every fault noted, one a line.
        """
        if len(self._found) == 1:
            only = self._found[0]
            place = ": ".join(part for part in (self._place, only.place) if part)
            raise UsageError(place=place, problem=only.problem, remedy=only.remedy, faults=())
        if self._found:
            raise UsageError(
                place=self._place,
                problem=f"{len(self._found)} faults",
                faults=tuple(self._found),
            )


def _bare(text: str, end: str) -> str:
    """The text on its own, without the punctuation that the sentence adds."""
    return text.strip().rstrip(end).rstrip()


def _revive(kind: type[PeftBenchError], attributes: dict[str, object]) -> PeftBenchError:
    error = kind.__new__(kind)
    error.__dict__.update(attributes)
    error.args = tuple(attributes[name] for name in ("place", "problem", "remedy"))
    return error
