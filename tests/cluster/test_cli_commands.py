"""The commands that talk to a cluster, as a user runs them: output, formats and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.devprocess import COMMAND, Dev, environment, free_port, quorate

pytestmark = pytest.mark.cluster


def run(dev: Dev, *arguments: str) -> tuple[int, str, str]:
    done = quorate(*arguments, url=dev.url)
    return done.returncode, done.stdout, done.stderr


def test_a_value_comes_back_as_the_json_it_was(dev: Dev) -> None:
    code, revision, _ = run(dev, "map", "put", "users", "alice", '{"age": 3}')
    assert code == 0
    assert int(revision) > 0
    assert run(dev, "map", "get", "users", "alice") == (0, '{"age": 3}\n', "")
    code, out, _ = run(dev, "-w", "json", "map", "get", "users", "alice")
    entry = json.loads(out)
    assert (entry["value"], entry["revision"], entry["expires"]) == ({"age": 3}, int(revision), None)


def test_text_is_kept_as_text(dev: Dev) -> None:
    run(dev, "map", "put", "users", "n", "3", "--text")
    assert json.loads(run(dev, "map", "get", "users", "n", "-w", "jsonl")[1])["value"] == "3"


def test_what_is_not_there_is_code_3(dev: Dev) -> None:
    assert run(dev, "map", "get", "users", "nobody") == (3, "", "")
    assert run(dev, "map", "get", "no-such-map", "k") == (3, "", "")
    assert run(dev, "map", "remove", "users", "nobody") == (3, "", "")
    assert run(dev, "lock", "show", "no-such-lock") == (3, "", "")
    assert run(dev, "map", "items", "no-such-map", "-w", "simple") == (0, "", "")


def test_a_condition_that_is_not_met_is_code_4_and_changes_nothing(dev: Dev) -> None:
    _, revision, _ = run(dev, "map", "put", "m", "k", "1")
    stale = str(int(revision) - 1)
    assert run(dev, "map", "put", "m", "k", "2", "--if-absent") == (4, "", "")
    assert run(dev, "map", "put", "m", "k", "2", "--if-value", "0") == (4, "", "")
    assert run(dev, "map", "put", "m", "k", "2", "--if-revision", stale) == (4, "", "")
    assert run(dev, "map", "remove", "m", "k", "--if-revision", stale) == (4, "", "")
    assert run(dev, "map", "get", "m", "k") == (0, "1\n", "")
    assert run(dev, "map", "put", "m", "k", "2", "--if-revision", revision.strip()) == (0, "", "")
    assert run(dev, "map", "get", "m", "k") == (0, "2\n", "")


def test_an_entry_expires(dev: Dev) -> None:
    run(dev, "map", "put", "m", "brief", "x", "--ttl", "3s")
    assert run(dev, "map", "get", "m", "brief")[0] == 0
    deadline = time.monotonic() + 15
    while run(dev, "map", "get", "m", "brief")[0] != 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_keys_may_be_integers_and_bytes(dev: Dev) -> None:
    run(dev, "map", "put", "keys", "7", "text")
    run(dev, "map", "put", "keys", "7", "int", "--key-as", "int")
    run(dev, "map", "put", "keys", "07ff", "bytes", "--key-as", "hex")
    assert run(dev, "map", "get", "keys", "7", "--key-as", "int")[1] == "int\n"
    rows = [json.loads(line) for line in run(dev, "map", "items", "keys", "-w", "jsonl")[1].splitlines()]
    assert {row["value"]: row["key"] for row in rows} == {"text": "7", "int": 7, "bytes": {"base64": "B/8="}}


@pytest.mark.parametrize("format", ["json", "table"])
def test_items_shows_every_entry_once(dev: Dev, format: str) -> None:
    for number in range(5):
        run(dev, "map", "put", "five", f"k{number}", str(number))
    out = run(dev, "map", "items", "five", "-w", format)[1]
    if format == "json":
        assert {row["key"]: row["value"] for row in json.loads(out)} == {f"k{n}": n for n in range(5)}
    else:
        assert all(out.count(f"k{number}") == 1 for number in range(5))
    assert len(run(dev, "map", "items", "five", "-w", "simple", "--limit", "2")[1].splitlines()) == 2


def test_a_reader_that_goes_away_is_no_error(dev: Dev) -> None:
    command = " ".join((*COMMAND, "map", "items", "five", "-w", "jsonl"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | true"], env=environment(QUORATE_URL=dev.url), capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == b""


def test_a_counter_counts(dev: Dev) -> None:
    assert run(dev, "counter", "get", "c") == (0, "0\n", "")
    assert run(dev, "counter", "add", "c") == (0, "1\n", "")
    assert run(dev, "counter", "add", "c", "-5") == (0, "-4\n", "")
    assert run(dev, "counter", "set", "c", str(2**63 - 1)) == (0, f"{2**63 - 1}\n", "")
    code, out, err = run(dev, "counter", "add", "c")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert run(dev, "counter", "get", "c")[1] == f"{2**63 - 1}\n"


def test_a_name_of_another_type_is_code_1_and_one_line(dev: Dev) -> None:
    run(dev, "counter", "add", "typed")
    code, out, err = run(dev, "map", "put", "typed", "k", "v")
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_namespaces_keep_names_apart(dev: Dev) -> None:
    run(dev, "counter", "set", "n", "1")
    assert quorate("counter", "get", "n", url=f"quorate://{dev.address}/team").stdout == "0\n"


def test_without_a_cluster_it_is_code_5_and_one_line() -> None:
    done = quorate("map", "get", "m", "k", "--timeout", "1s", url=f"quorate://127.0.0.1:{free_port(1)}")
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:7400", "quorate://", "quorate://host:port", "127.0.0.1:7400"]
)
def test_a_wrong_url_is_a_usage_error(url: str) -> None:
    done = quorate("map", "get", "m", "k", "--url", url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_status_names_nodes_and_groups_and_all_replicas_agree(dev: Dev) -> None:
    code, out, _ = run(dev, "status", "--hashes", "-w", "json")
    told = json.loads(out)
    assert code == 0
    assert told["ready"] is True
    assert [node["name"] for node in told["nodes"]] == ["n1"]
    assert [group["group"] for group in told["groups"]] == [0, 1, 2, 3, 4]
    assert sum(group["slots"] for group in told["groups"]) == 16384
    assert sorted(told["group"] for told in told["hashes"]) == [0, 1, 2, 3, 4]
    table = run(dev, "status", "--hashes")[1]
    assert "n1" in table
    assert "equal" in table


def start_lock_run(
    dev: Dev, name: str, *command: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "lock", "run", name, *options, "--", *command], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment(QUORATE_URL=dev.url),
    )  # fmt: skip


def test_the_child_of_lock_run_has_its_token_and_gives_the_exit_code(dev: Dev) -> None:
    script = 'echo "$QUORATE_NAME $QUORATE_FENCING_TOKEN $QUORATE_SESSION"; exit 42'
    tokens = []
    for _ in range(2):
        code, out, err = run(dev, "lock", "run", "nightly", "--", "sh", "-c", script)
        name, token, session = out.split()
        assert (code, name, err) == (42, "nightly", "")
        assert len(session) == 32
        tokens.append(int(token))
    assert tokens[0] < tokens[1]


def test_a_lock_that_is_held_is_not_obtained(dev: Dev) -> None:
    holder = start_lock_run(dev, "held", "sh", "-c", "echo up; sleep 60")
    assert holder.stdout is not None
    holder.stdout.readline()
    shown = json.loads(run(dev, "lock", "show", "held", "-w", "json")[1])
    assert shown["name"] == "held"
    for options in (("--no-wait",), ("--timeout", "500ms")):
        code, out, err = run(dev, "lock", "run", "held", *options, "--", "echo", "never")
        assert (code, out, err) == (4, "", "quorate: the lock held was not obtained\n")
    holder.send_signal(signal.SIGTERM)
    holder.communicate(timeout=30)
    assert holder.returncode == 128 + signal.SIGTERM
    assert run(dev, "lock", "run", "held", "--no-wait", "--", "echo", "mine") == (0, "mine\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_ended_while_waiting_leaves_the_queue(dev: Dev, number: signal.Signals, code: int) -> None:
    name = f"queue{code}"
    holder = start_lock_run(dev, name, "sh", "-c", "echo up; sleep 60")
    assert holder.stdout is not None
    holder.stdout.readline()
    waiter = start_lock_run(dev, name, "echo", "never")
    wait_for_sessions(dev, name, 2)
    waiter.send_signal(number)
    assert waiter.communicate(timeout=30) == ("", "")
    assert waiter.returncode == code
    holder.send_signal(signal.SIGTERM)
    holder.communicate(timeout=30)
    assert run(dev, "lock", "run", name, "--no-wait", "--", "echo", "mine") == (0, "mine\n", "")


def wait_for_sessions(dev: Dev, name: str, count: int) -> None:
    """Until so many sessions live in some group: holder and waiter of a lock are in the same one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        groups = json.loads(run(dev, "status", "-w", "json")[1])["groups"]
        if max(group["sessions"] for group in groups) >= count:
            return
    raise AssertionError(f"nobody waits for {name}")


def test_a_command_that_does_not_exist_releases_the_lock(dev: Dev) -> None:
    assert run(dev, "lock", "run", "l", "--", "/no/such/program")[0] == 127
    assert run(dev, "lock", "run", "l", "--no-wait", "--", "true")[0] == 0


def test_a_lost_session_stops_the_child_with_code_8(tmp_path: Path) -> None:
    with Dev("--no-restart", nodes=1) as own:
        own.wait_until_ready()
        marker = tmp_path / "terminated"
        script = f"trap 'echo x > {marker}; exit 0' TERM; echo up; while :; do sleep 0.1; done"
        holder = start_lock_run(own, "l", "sh", "-c", script, options=("--session-timeout", "2s"))
        assert holder.stdout is not None
        holder.stdout.readline()
        own.kill("n1")
        _, errors = holder.communicate(timeout=30)
        assert holder.returncode == 8
        # The shell, whose whole group was signalled, tells of its own child, too.
        assert errors.splitlines()[-1] == "quorate: lost the lock l while the command ran; it was stopped"
        assert marker.exists()


def test_without_a_quorum_a_change_is_code_6_and_a_question_code_5() -> None:
    with Dev("--no-restart", nodes=3) as own:
        own.wait_until_ready()
        assert run(own, "counter", "add", "c")[0] == 0
        own.kill("n2")
        own.kill("n3")
        assert run(own, "counter", "add", "c", "--timeout", "2s")[::2] == (
            6, "quorate: no answer within 2 s; the change may or may not have taken effect\n"
        )  # fmt: skip
        asked = run(own, "counter", "get", "c", "--timeout", "2s")
        assert asked == (5, "", "quorate: no answer within 2 s\n")
