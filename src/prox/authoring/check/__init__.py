"""The conformance kit: checks of lines, frames, connections, hooks and the process, for a plugin in any language.

    subject = Subject(["./guard"])
    outcomes = list(run(subject, CHECKS))

Each check has a name, a sentence and a section of docs/reference/protocol.md that asks for it. The plugin is
started as prox starts it, and nothing is asked of it that prox does not do.
"""

from .model import Check, CheckFailedError, CheckSkippedError, Group, Outcome
from .report import as_json, summary, text_lines
from .runner import CHECKS, run, select
from .subject import Patience, Subject

__all__ = [
    "CHECKS",
    "Check",
    "CheckFailedError",
    "CheckSkippedError",
    "Group",
    "Outcome",
    "Patience",
    "Subject",
    "as_json",
    "run",
    "select",
    "summary",
    "text_lines",
]
