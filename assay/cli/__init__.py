"""The `assay` command: one module per verb, imported only when it is called."""

import argparse
import errno
import importlib
import sys
import traceback
from collections.abc import Sequence

# verb -> module of this package, which defines HELP, add_arguments(parser) and run(arguments) -> exit code
VERBS: dict[str, str] = {
    "plan": "plan",
    "validate": "validate",
    "params": "params",
    "show": "show",
    "sync": "sync",
    "sql": "sql",
    "rebuild": "rebuild",
    "prune": "prune",
    "export": "export",
    "import": "import_",
    "verify": "verify",
    "tools": "tools",
}

DISK = {
    errno.ENOSPC: "free some space and run again", errno.EDQUOT: "free some space and run again",
    errno.EROFS: "make the folder one that can be written", errno.EACCES: "make it one that this user may write",
    errno.EXDEV: "keep the project, with its folder .assay, on one file system",
}  # fmt: skip
"""What a person does where the file system refuses."""
PERSON_MUST_ACT = 2
"""Exit code of a mistake that a person has to correct: running again without a change would fail again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `assay`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="assay", description="Reinforcement learning with verifiable, but imperfect, rewards.")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    arguments = list(sys.argv[1:] if argv is None else argv)
    for verb, name in VERBS.items():
        # Only the verb that is called is imported in full; `assay --help` imports them all for their one-line help.
        if arguments[:1] == [verb] or arguments[:1] in ([], ["-h"], ["--help"]):
            module = importlib.import_module(f"assay.cli.{name}")
            module.add_arguments(commands.add_parser(verb, help=module.HELP, description=module.HELP))
        else:
            commands.add_parser(verb, add_help=False)
    parsed = parser.parse_args(arguments)
    module = importlib.import_module(f"assay.cli.{VERBS[parsed.verb]}")
    return speak(lambda: module.run(parsed))


def speak(action) -> int:
    """Run an action; an error that a room raised on purpose becomes one message, anything else keeps its traceback.

    Returns the action's exit code, PERSON_MUST_ACT for an error that names a mistake (a ValueError of ours), 1 otherwise.
    """
    try:
        return int(action() or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK and not type(error).__module__.startswith("assay."):
            place = f"{error.filename}: " if error.filename else ""
            print(f"error: {place}{error.strerror}; {DISK[error.errno]}", file=sys.stderr, flush=True)
            return PERSON_MUST_ACT
        if not type(error).__module__.startswith("assay."):
            traceback.print_exc()
            return 1
        print(f"error: {error}", file=sys.stderr, flush=True)
        return PERSON_MUST_ACT if isinstance(error, ValueError) else 1
