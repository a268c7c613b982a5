"""The command line. Each module here holds the flags and the `main` of its commands; `COMMANDS` lists them all."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import sys
from collections.abc import Sequence

from absl import flags

import tfaug
from tfaug import files
from tfaug.config import ConfigError, near_name
from tfaug.extras import MissingExtra, explained

_EXPERIMENT = ("run", "train", "export", "serve", "evaluate", "report")

# Command -> the module in which it lives; imported when it is asked for.
COMMANDS: dict[str, str] = {
    **dict.fromkeys(_EXPERIMENT, "tfaug.cli.experiment"),
    **dict.fromkeys(("study run", "study report", "sweep"), "tfaug.cli.study"),
    "preview": "tfaug.cli.preview",
    "data augment": "tfaug.cli.data",
    "models": "tfaug.cli.models",
    "fingerprint": "tfaug.cli.fingerprint",
}


def usage() -> str:
    """Returns the text of `tfaug --help`."""
    lines = [
        f"tfaug {tfaug.__version__}: image augmentation for TensorFlow and Keras that is exact, fast and honest.",
        "",
        "usage: tfaug COMMAND [FLAGS]",
    ]
    for name in dict.fromkeys(COMMANDS.values()):
        module = importlib.import_module(name)
        lines += ["", f"  {module.USAGE}"]
        width = max(map(len, module.COMMANDS))
        lines += [f"    {command:<{width}}  {what}" for command, what in module.COMMANDS.items()]
        lines += ["    flags:"]
        width = max(map(len, module.FLAGS))
        for flag_name in module.FLAGS:
            flag = module.FLAGS[flag_name]
            default = "" if flag.default in (None, [], "") else f" (default {flag.default})"
            # absl breaks the line where a flag may be repeated.
            lines.append(f"      --{flag_name:<{width}}  {' '.join(flag.help.split())}{default}")
        lines += [f"    example: {module.EXAMPLE}"]
    lines += ["", "  --help         this text", "  --version      the version"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the console script `tfaug`.

    Args:
      arguments: without the program's name; None takes the process's.

    Returns:
      The exit status: 0 done, 1 the work failed, 2 the command line or the configuration is wrong, or asks for a part
      that is not installed, 130 stopped by hand, 141 nobody reads the output any more, as after `| head`.
    """
    try:
        status = _main(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        error.filename = "standard output"
        _drop_output()
        return _fail(error)


def _main(arguments: Sequence[str] | None) -> int:
    """Runs a command; an error that a user can act on becomes one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"--help", "-h", "help"} & set(arguments):
        print(usage())
        return 0
    if "--version" in arguments:
        print(f"tfaug {tfaug.__version__}")
        return 0
    try:
        command, rest = _split(arguments)
        with explained():
            return importlib.import_module(COMMANDS[command]).main(command, rest)
    except (ConfigError, MissingExtra, flags.Error) as error:
        print(f"tfaug: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not _is_of_the_system(error) or (isinstance(error, BrokenPipeError) and _reader_is_gone()):
            raise
        return _fail(error)
    except KeyboardInterrupt:
        print("\ntfaug: stopped; the same command goes on where it can", file=sys.stderr)
        return 130


def _fail(error: Exception) -> int:
    """Says in one line what the system refused, and returns the exit status."""
    advice = "; see to the path, its permissions and the free space: the same command goes on where it can"
    if isinstance(error, ConnectionError):
        advice = "; another process, or a connection to one, has ended: the same command goes on where it can"
    if isinstance(error, OSError) and error.errno is None:
        advice = ""  # the error is our own, or a library's, and says it all
    print(f"tfaug: {files.one_line(error)}{advice}", file=sys.stderr)
    return 1


def _is_of_the_system(error: Exception) -> bool:
    """Whether a file is absent, damaged or refused; TensorFlow's other errors are of a program."""
    if isinstance(error, OSError):
        return True
    tf = sys.modules.get("tensorflow")
    if tf is None or not isinstance(error, tf.errors.OpError):
        return False
    known = isinstance(error, (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError))
    return known or any(f"; {os.strerror(number)}" in error.message for number in errno.errorcode)


def _reader_is_gone() -> bool:
    """Whether nobody reads one of the outputs any more: the error of a broken pipe does not say which one it was."""
    polled = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
            polled.register(stream.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in polled.poll(0))


def _drop_output() -> None:
    """Leads what cannot be written nowhere: the interpreter writes the rest of it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the command and the arguments that follow; a command may have two words."""
    for num_words in (2, 1):
        command = " ".join(arguments[:num_words])
        if command in COMMANDS:
            return command, list(arguments[num_words:])
    got = arguments[0]
    raise ConfigError(f"the command is {got!r}{near_name(got, COMMANDS)}; allowed: {', '.join(COMMANDS)}")
