"""The command line as a whole: where options may stand, what a mistake gives, and what an error becomes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import trio

from ops import runner
from ops.app import hoist
from ops.exits import Failure, UsageError, explain, leaf
from primitives.errors import (
    InvariantViolation,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    SessionLost,
    TooLarge,
    TypeMismatch,
    Unavailable,
)


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        ("-w json map get m k", "map get m k -w json"),
        ("map -w json get m k --url u", "map get m k -w json --url u"),
        ("--timeout=3 map get m k", "map get m k --timeout=3"),
        ("--url u lock run n -- ls -w x", "lock run n --url u -- ls -w x"),
        ("map get m k", "map get m k"),
    ],
)
def test_global_options_may_stand_before_or_after_the_subcommand(given: str, moved: str) -> None:
    assert hoist(given.split()) == moved.split()


def test_a_global_option_needs_its_value() -> None:
    with pytest.raises(UsageError, match="--url needs a value"):
        hoist(["map", "get", "m", "k", "--url"])


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("mapp get a b", 'Unknown command "mapp". Did you mean "map"?'),
        ("map gett a b", 'Unknown command "gett". Did you mean "get"?'),
        ("map get a", "KEY requires an argument"),
        ("map get a b c", "Unused Tokens: ['c']"),
        ("map get a b --tiemout 3", "Unknown option: --tiemout. Did you mean --timeout?"),
        ("map get a b -w xml", 'Invalid value "xml" for -w'),
        ("map get a b --timeout soon", "'soon' is not a duration"),
        ("map put a b c --if-absent --if-revision 3", "exclude one another"),
        ("map put a b c --ttl 0", "'0' is not a duration above 0"),
        ("map put a b 99999999999999999999", "integer beyond 64 bits"),
        ("map items a --limit 0", "expected a number above 0"),
        ("counter add c five", "'five' is not a whole number"),
        ("counter set c 1.5", "'1.5' is not a whole number"),
        ("map put a b c --if-revision 1.5", "'1.5' is not a whole number"),
        ("map put a b c --if-revision -1", "a revision is not negative"),
        ("map put a b c --if-revision 99999999999999999999", "beyond 64 bits"),
        ("map remove a b --if-revision -1", "a revision is not negative"),
        ("dev --nodes 2.5", "'2.5' is not a whole number"),
        ("counter set c 9223372036854775808", "beyond 64 bits"),
        ("lock run n", "nothing to run"),
        ("serve --name n1", "--data is missing"),
        ("serve --http 127.0.0.1:1", "Unknown option: --http"),
        ("dev --nodes 0", "--nodes 0: expected a number from 1 to 9"),
        ("dev --replicas 4", "--replicas 4: expected a number from 1 to 3"),
        ("map get a b -w", "-w needs a value"),
    ],
)
def test_a_usage_error_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], tokens: str, words: str
) -> None:
    assert runner.run(tokens.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("quorate: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 513])
def test_a_name_that_no_primitive_may_have_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert runner.run(["map", "get", name, "k"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_key_or_value_that_is_too_large_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(["map", "get", "m", "k" * 1025]) == 2
    assert runner.run(["map", "put", "m", "k", "v" * (1 << 20)]) == 2
    assert runner.run(["map", "put", "m", "k", "[" * 17 + "]" * 17]) == 2
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("no", 1), 1), (UsageError("no"), 2), (TypeMismatch("no"), 1), (Unavailable("no"), 5),
        (Overloaded("no"), 5), (OutcomeUnknown("no"), 6), (SessionLost("no"), 6), (TooLarge("no"), 2),
        (trio.TooSlowError(), 6), (PermissionDenied("no"), 7), (KeyboardInterrupt(), 130),
        (ZeroDivisionError("no"), 1), (OSError(98, "Address in use"), 1),
    ],
)  # fmt: skip
def test_each_error_has_its_code_even_inside_groups(error: BaseException, code: int) -> None:
    assert explain(error)[0] == code
    assert explain(BaseExceptionGroup("a", [BaseExceptionGroup("b", [error])]))[0] == code


def test_lines_are_single_and_say_what_is_wrong() -> None:
    assert explain(Unavailable("a\nb")) == (5, "a b")
    assert explain(OSError(13, "Permission denied", "/data")) == (1, "/data: permission denied")
    assert explain(ZeroDivisionError("x")) == (1, "internal error: ZeroDivisionError: x")
    assert explain(trio.TooSlowError())[1] == "TooSlowError"
    assert explain(KeyboardInterrupt())[1] == ""


def test_our_own_mistakes_come_before_anything_else_in_a_group() -> None:
    violation = InvariantViolation("two leaders")
    assert leaf(BaseExceptionGroup("a", [Unavailable("x"), KeyboardInterrupt(), violation])) is violation


def test_help_and_version_are_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(["--help"]) == 0
    assert "counter" in capsys.readouterr().out
    assert runner.run(["map", "put", "--help"]) == 0
    assert "--if-absent" in capsys.readouterr().out


def test_a_client_command_loads_neither_store_nor_node() -> None:
    source = (
        "import sys, ops.runner; ops.runner.run(['map', 'get', 'm', 'k', '--bad']); "
        "print([m for m in ('rocksdict', 'shards', 'rich.table') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, timeout=30)
    assert done.stdout == b"[]\n"


async def test_an_interrupt_while_the_program_loads_shows_no_traceback() -> None:
    source = "import ops.main, sys; sys.argv[1:] = ['--help']; print('in', flush=True); ops.main.main()"
    for delay_s in (0.02, 0.05, 0.1, 0.2):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        async with process.stdout, process.stderr:
            await process.stdout.receive_some()
            await trio.sleep(delay_s)
            process.send_signal(signal.SIGINT)
            assert await process.stderr.receive_some() == b""
            await process.wait()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--version >&-", 0),
        ("nope 2>&-", 2),
        ("lock run l --url quorate://127.0.0.1:1 --timeout 100ms -- true <&-", 5),
        ("map get m k --url quorate://127.0.0.1:1 --timeout 100ms <&- >&-", 5),
    ],
)
def test_closed_standard_streams_change_no_exit_code(command: str, code: int) -> None:
    line = f"{sys.executable} -m ops.main {command}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert "internal error" not in done.stderr
