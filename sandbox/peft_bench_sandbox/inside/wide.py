"""The widened judges' candidates, with whom more goes over than arguments and values.

"split-mocks": what a test replaces in modules is replaced in the program's process (mocks.py).
"split-arguments": so, and what a program changes in its arguments changes in the test (inout.py).
"split-files": so, and what either side does in its own working directory is done in the other's
(folder.py). Nothing of this is in the way of the ordinary split judge: neither its candidates'
processes nor its judges' do any of it.

Over the socket, a frame `w` may come before an answer: changed objects by number, and changes of
the directory.
"""

import marshal
import os
from _json import encode_basestring_ascii as quote

from .candidate import CHANNEL, Bounds, compiled, cut, kinds_of, raised, run_program
from .folder import Folder, TooMuch
from .frames import read_frame, write_frame
from .inout import Objects, as_text
from .mocks import Replacements
from .plain import NotPlain, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOCKS, ARGUMENTS, FILES = "split-mocks", "split-arguments", "split-files"


def serve(source: str, judge: str, *, works: bool) -> None:
    """As candidate.serve, for a judge that is widened. works: there is a directory of its own."""
    folder = Folder(os.getcwd()) if works and judge == FILES else None
    keeps = judge != MOCKS
    objects, replacements = Objects(folder, keeps=keeps), Replacements()
    namespace: dict[str, Any] = {}
    try:
        namespace = run_program(compiled(source), "candidate")
        answer = f"h{{{kinds_of(namespace)}}}"
    except BaseException as error:
        answer = raised(error)
    _tell("the program", answer, objects)
    while request := read_frame(CHANNEL):
        # The judge is trusted: its requests are read as they come.
        name, text, mocks, changes = marshal.loads(request)
        objects = Objects(folder, keeps=keeps)
        try:
            replacements.put(mocks)
            if folder is not None:
                folder.apply(*changes)
            value = namespace[name]
            if text is not None:
                arguments, keywords = objects.build_call(text)
                value = value(*arguments, **keywords)
            answer = "v" + _text(value, objects)
        except NotPlain as error:
            answer = "n" + quote(cut(f"{name} gave what is no plain data: {error}"))
        except BaseException as error:
            answer = raised(error)
        _tell(name, answer, objects)


def _text(value: "Any", objects: Objects) -> str:
    try:
        return as_text(objects.tell(value))
    except RecursionError as error:
        raise NotPlain(f"nested too deep ({error})") from None


def _tell(name: str, answer: str, objects: Objects) -> None:
    """Send what has changed, if anything has, and the answer."""
    try:
        changed = objects.changed()
        files = None
        if objects.folder is not None:
            files = objects.folder.changes(Bounds.output_bytes)
        if changed or (files and any(files)):
            frame = "w" + as_text([changed, told(files)])
            write_frame(CHANNEL, frame.encode("ascii"))
    except TooMuch as error:
        answer = "o" + quote(cut(f"{name} left {error}"))
    except NotPlain as error:
        answer = "n" + quote(cut(f"{name} left what is no plain data in an argument: {error}"))
    except BaseException as error:
        answer = raised(error)
    write_frame(CHANNEL, answer.encode("ascii"))
