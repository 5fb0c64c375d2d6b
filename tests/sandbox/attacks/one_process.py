"""A scorer that runs program and test in its own process, as its own standard input says.

What others do: the program is kept in a file, where tracebacks find its lines; what was raised and
what was given go into a line of results, JSON in UTF-8.
"""

import json
import sys
import traceback
from pathlib import Path

source, code, function, given, expected = json.load(sys.stdin)
line: dict[str, object] = {"result": "passed"}
names = {"__name__": "candidate" if function else "__main__"}
Path("program.py").write_text(source, encoding="utf-8")
try:
    exec(compile(source, "program.py", "exec"), names)
    if function in names:
        asked = names[function]

        def noted(*arguments: object) -> object:
            line["got"] = asked(*arguments)  # type: ignore[operator]
            return line["got"]

        names[function] = noted  # type: ignore[assignment]
    if code is None:
        assert names[function](*given) == expected  # type: ignore[operator]
    else:
        exec(compile(code, "<test>", "exec"), names)
except Exception as error:
    if isinstance(error, MemoryError) and not error.args:
        raise  # it is at its outer bound: without one, the machine would be
    line["result"] = f"failed: {type(error).__name__}: {error}"
    line["trace"] = traceback.format_exc()
text = json.dumps(line, ensure_ascii=False)
sys.__stderr__.buffer.write(text.encode())  # type: ignore[union-attr]
