"""The prompt of the shell: completion and the grey hint behind the cursor, from the server's command table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.utils import get_cwidth

from kvclient.command_table import Command, Table, find, hint, options
from kvclient.words import typed

# What the shell itself understands.
OWN_COMMANDS = {
    "HELP": Command("HELP", summary="Lists the commands, or explains one", group="shell"),
    "CLEAR": Command("CLEAR", summary="Clears the screen", group="shell"),
    "EXIT": Command("EXIT", summary="Leaves the shell, as Ctrl-D does", group="shell"),
    "QUIT": Command("QUIT", summary="Leaves the shell, as Ctrl-D does", group="shell"),
}


def candidates(table: Table, text: str) -> list[tuple[str, str]]:
    """What the word under the cursor may become, and a remark on each. `text`: the line up to the cursor."""
    words, prefix = typed(text)
    names = OWN_COMMANDS | table
    if words and words[0].upper() == "HELP":
        words = words[1:]
    if not words:
        found = [(name, names[name].summary) for name in sorted(names)]
    else:
        command, count = find(names, words)
        if command and command.subcommands and count == len(words):
            found = [(name, sub.summary) for name, sub in sorted(command.subcommands.items())]
        else:
            found = [(token, "") for token in options(names, words)]
    chosen = [(name, remark) for name, remark in found if name.startswith(prefix.upper()) and name != prefix.upper()]
    return [(name.lower(), remark) for name, remark in chosen] if prefix.islower() else chosen


class CommandCompleter(Completer):
    """Completes names of commands, subcommands and options, in the letter case that the word was begun in."""

    def __init__(self, table: Callable[[], Table]) -> None:
        self._table = table

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        _, prefix = typed(text)
        if not prefix and not complete_event.completion_requested:
            return
        for name, remark in candidates(self._table(), text):
            yield Completion(name, start_position=-len(prefix), display_meta=remark)


def hint_after(table: Table, text: str) -> str:
    """The hint to show at the end of a line, with the blank before it where one is missing."""
    words, prefix = typed(text)
    if prefix:
        words.append(prefix)
    if not words:
        return ""
    rest = hint(OWN_COMMANDS | table, words)
    return rest if not rest or not prefix else " " + rest


class HintProcessor(Processor):
    """Shows what may still follow, in grey, while the cursor stands at the end."""

    def __init__(self, table: Callable[[], Table], prompt_width: Callable[[], int]) -> None:
        self._table = table
        self._prompt_width = prompt_width

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        document, fragments = transformation_input.document, transformation_input.fragments
        is_last = transformation_input.lineno == document.line_count - 1
        # What has been entered or cancelled keeps no hint on the screen.
        if not is_last or not document.is_cursor_at_the_end or get_app().is_done:
            return Transformation(fragments)
        prompt_width = self._prompt_width() if document.line_count == 1 else 0
        room = transformation_input.width - prompt_width - get_cwidth(document.current_line) - 1
        return Transformation([*fragments, ("class:hint", shortened(hint_after(self._table(), document.text), room))])


def shortened(text: str, width: int) -> str:
    """`text`, cut with an ellipsis where it does not fit into `width` columns."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…" if width > 0 else ""
