"""The commands of values, sets, queues, lists and elections, read levels and positions: what they print and
their exit codes. They run in this process, against real nodes."""

from __future__ import annotations

import json
import signal
import subprocess
from itertools import pairwise

import pytest
import trio

from router.client import connect
from tests.devprocess import COMMAND, Dev, Run, environment

pytestmark = pytest.mark.cluster


def test_a_value_is_set_compared_and_unset(run: Run) -> None:
    assert run("value", "get", "v") == (3, "", "")
    assert run("value", "cas", "v", "null", '{"a": 1}') == (0, "", "")
    assert run("value", "cas", "v", "null", "2") == (4, "", "")
    assert run("value", "get", "v") == (0, '{"a": 1}\n', "")
    revision = json.loads(run("value", "get", "v", "-w", "json")[1])["revision"]
    assert run("value", "set", "v", "2", "--if-revision", str(revision)) == (0, "", "")
    assert run("value", "set", "v", "3", "--if-revision", str(revision)) == (4, "", "")
    assert run("value", "unset", "v", "--if-revision", str(revision)) == (4, "", "")
    assert run("value", "set", "v", "3", "--if-value", "2") == (0, "", "")
    assert int(run("value", "set", "v", "5")[1]) > revision
    assert run("value", "unset", "v") == (0, "", "")
    assert run("value", "unset", "v") == (3, "", "")


def test_a_set_counts_what_changed(run: Run) -> None:
    assert run("set", "add", "s", "a", "b", "c") == (0, "3\n", "")
    assert run("set", "add", "s", "c", "d") == (0, "1\n", "")
    assert run("set", "contains", "s", "d") == (0, "", "")
    assert run("set", "contains", "s", "e") == (3, "", "")
    assert sorted(run("set", "items", "s", "-w", "simple")[1].split()) == ["a", "b", "c", "d"]
    assert len(run("set", "items", "s", "-w", "simple", "--limit", "2")[1].split()) == 2
    assert run("set", "remove", "s", "a", "z") == (0, "1\n", "")
    assert run("set", "remove", "s", "a") == (3, "0\n", "")
    assert run("set", "size", "s") == (0, "3\n", "")
    assert run("set", "clear", "s") == (0, "", "")
    assert run("set", "size", "s") == (0, "0\n", "")


def test_a_queue_gives_each_element_once_and_in_order(run: Run) -> None:
    assert run("queue", "poll", "q") == (3, "", "")
    assert run("queue", "offer", "q", "1", "null", "x") == (0, "", "")
    assert run("queue", "size", "q") == (0, "3\n", "")
    assert run("queue", "peek", "q") == (0, "1\n", "")
    assert run("queue", "take", "q") == (0, "1\n", "")
    assert run("queue", "items", "q", "-w", "simple") == (0, "null\nx\n", "")
    assert run("queue", "poll", "q") == (0, "null\n", "")
    assert run("queue", "poll", "q", "-w", "jsonl") == (0, '{"name": "q", "value": "x"}\n', "")
    assert run("queue", "peek", "q") == (3, "", "")


def test_a_queue_at_its_capacity_is_code_4_and_says_so(run: Run) -> None:
    assert run("queue", "offer", "small", "1", "2", "--capacity", "2")[0] == 0
    code, out, err = run("queue", "offer", "small", "3")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "no room" in err
    assert run("queue", "offer", "small", "3", "--capacity", "9")[0] == 1


def test_a_taker_waits_and_leaves_the_queue_at_its_limit(run: Run) -> None:
    assert run("queue", "take", "later", "--timeout", "300ms") == (
        4, "", "quorate: nothing came within 0.3 s\n"
    )  # fmt: skip
    run("queue", "offer", "later", "x")
    assert run("queue", "take", "later") == (0, "x\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_taker_that_is_ended_takes_nothing(
    run: Run, dev: Dev, number: signal.Signals, code: int
) -> None:
    name = f"left{code}"
    with subprocess.Popen(
        [*COMMAND, "queue", "take", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(QUORATE_URL=dev.url),
    ) as taker:  # fmt: skip
        while run("primitive", "info", name)[0] != 0:
            assert taker.poll() is None
        taker.send_signal(number)
        assert taker.communicate(timeout=30) == ("", "")
    assert taker.returncode == code
    run("queue", "offer", name, "x")
    assert run("queue", "poll", name) == (0, "x\n", "")


def test_a_list_is_changed_by_index(run: Run) -> None:
    assert run("list", "append", "l", "a", "[1]", "c") == (0, "", "")
    assert run("list", "insert", "l", "0", "first") == (0, "", "")
    assert run("list", "get", "l", "-1") == (0, "c\n", "")
    assert run("list", "set", "l", "1", "b") == (0, "", "")
    assert run("list", "index", "l", "[1]") == (0, "2\n", "")
    assert run("list", "remove", "l", "[1]") == (0, "", "")
    assert run("list", "remove", "l", "[1]") == (3, "", "")
    assert run("list", "items", "l", "-w", "simple") == (0, "first\nb\nc\n", "")
    assert run("list", "pop", "l", "0") == (0, "first\n", "")
    assert run("list", "pop", "l") == (0, "c\n", "")
    assert run("list", "size", "l") == (0, "1\n", "")


@pytest.mark.parametrize("command", [("get", "9"), ("set", "9", "x"), ("pop", "-9")])
def test_an_index_out_of_range_is_code_3_and_says_so(run: Run, command: tuple[str, ...]) -> None:
    run("list", "append", "short", "a")
    code, out, err = run("list", command[0], "short", *command[1:])
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "has no element" in err


def test_the_leader_runs_its_command_and_is_seen_by_others(run: Run, dev: Dev) -> None:
    assert run("election", "leader", "e") == (3, "", "")
    command = "echo $QUORATE_NAME $QUORATE_FENCING_TOKEN; read line"
    with subprocess.Popen(
        [*COMMAND, "election", "run", "e", "--data", '{"host": "h1"}', "--", "sh", "-c", command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(QUORATE_URL=dev.url),
    ) as leader:  # fmt: skip
        assert leader.stdout is not None
        name, term = leader.stdout.readline().split()
        told = json.loads(run("election", "leader", "e", "-w", "jsonl")[1])
        assert (name, told["name"], told["term"], told["leader"]) == ("e", "e", int(term), {"host": "h1"})
        code, _, err = run("election", "run", "e", "--timeout", "300ms", "--", "true")
        assert (code, err) == (4, "quorate: the leadership of e was not obtained\n")
        leader.communicate("\n", timeout=30)
        assert leader.returncode == 0
    assert run("election", "leader", "e") == (3, "", "")


def test_a_leadership_that_somebody_ends_stops_the_command_with_code_8(run: Run, dev: Dev) -> None:
    with subprocess.Popen(
        [*COMMAND, "election", "run", "ended", "--", "sh", "-c", "echo up; sleep 60"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(QUORATE_URL=dev.url),
    ) as leader:  # fmt: skip
        assert leader.stdout is not None
        assert leader.stdout.readline() == "up\n"
        candidate = json.loads(run("election", "leader", "ended", "-w", "json")[1])["candidate"]

        async def evict() -> bool:
            async with connect(dev.url) as client:
                return await client.election("ended").evict(candidate)

        assert trio.run(evict)
        _, errors = leader.communicate(timeout=30)
    assert leader.returncode == 8
    last = errors.splitlines()[-1]
    assert last == "quorate: lost the leadership of ended while the command ran; it was stopped"


def test_a_reading_command_is_answered_at_every_level(run: Run) -> None:
    _, out, _ = run("map", "put", "m", "k", "1", "--show-position", "-w", "jsonl")
    position = json.loads(out)["position"]
    for level in ("linearizable", "sequential", "stale:5s", f"causal:{position}"):
        assert run("map", "get", "m", "k", "--read", level) == (0, "1\n", "")
        assert run("map", "size", "m", "--read", level)[0] == 0


def test_a_position_is_told_on_standard_error_for_people(run: Run) -> None:
    run("map", "put", "m", "k", "1")
    code, out, err = run("map", "get", "m", "k", "--show-position")
    assert (code, out) == (0, "1\n")
    assert err.startswith("position: ")
    assert run("map", "get", "nothing", "k", "--show-position") == (3, "", "")


def test_a_position_of_another_primitive_is_refused_in_a_line(run: Run) -> None:
    _, out, _ = run("map", "put", "m", "k", "1", "--show-position", "-w", "jsonl")
    run("map", "put", "other", "k", "1")
    code, out, err = run("map", "get", "other", "k", "--read", f"causal:{json.loads(out)['position']}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "another primitive" in err


@pytest.mark.parametrize(
    "level", ["fresh", "causal:", "causal:x", "stale:-1", "stale:0", "stale:soon", "sequential:1", ""]
)
def test_a_read_level_that_is_none_is_a_usage_error(run: Run, level: str) -> None:
    code, out, err = run("map", "get", "m", "k", "--read", level)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_name_of_another_type_is_named_with_both(run: Run) -> None:
    run("counter", "add", "typed")
    wrong = [("map", "put", "typed", "k", "v"), ("queue", "offer", "typed", "v"), ("set", "size", "typed")]
    for words in wrong:
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "counter" in err
        assert words[0] in err


def test_another_shape_than_the_one_asked_for_is_refused(run: Run) -> None:
    assert run("map", "put", "shaped", "k", "1", "--partitions", "3")[0] == 0
    assert run("map", "put", "shaped", "k", "2", "--pinned")[0] == 1
    assert run("map", "put", "shaped", "k", "2", "--pinned", "--partitions", "3")[0] == 2
    assert run("map", "get", "shaped", "k") == (0, "1\n", "")


def test_top_shows_the_cluster_and_ends_by_its_count(run: Run) -> None:
    code, out, _ = run("top", "--count", "2", "--interval", "50ms", "-w", "jsonl")
    frames = [json.loads(line) for line in out.splitlines()]
    assert (code, len(frames)) == (0, 2)
    assert [group["leader"] for group in frames[-1]["groups"]] == ["n1"] * 5
    assert frames[-1]["entries_s"] is not None


def test_top_and_watches_end_by_an_interrupt_without_a_word(dev: Dev) -> None:
    with subprocess.Popen(
        [*COMMAND, "top", "-w", "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(QUORATE_URL=dev.url),
    ) as top:  # fmt: skip
        assert top.stdout is not None
        top.stdout.readline()
        top.send_signal(signal.SIGINT)
        _, errors = top.communicate(timeout=30)
    assert (top.returncode, errors) == (130, "")


def test_every_slot_has_an_owner(run: Run) -> None:
    groups = json.loads(run("slot", "map", "-w", "json")[1])
    assert sum(group["slots"] for group in groups) == 16384
    runs = json.loads(run("slot", "map", "--ranges", "-w", "json")[1])
    assert runs[0]["first"] == 0
    assert runs[-1]["last"] == 16383
    assert all(one["last"] + 1 == two["first"] for one, two in pairwise(runs))


def test_what_exists_is_listed_by_name_and_type_and_can_be_deleted(run: Run) -> None:
    run("map", "put", "ls/m", "k", "v")
    run("map", "put", "ls/n", "k", "v", "--pinned")
    run("counter", "add", "ls/c")
    listed = run("primitive", "ls", "ls/", "-w", "simple")[1]
    assert listed == "ls/c\tcounter\t0\nls/m\tmap\t16\nls/n\tmap\t0\n"
    assert run("primitive", "ls", "ls/", "--type", "counter", "-w", "simple")[1] == "ls/c\tcounter\t0\n"
    assert len(run("primitive", "ls", "--limit", "2", "-w", "simple")[1].splitlines()) == 2
    assert run("primitive", "ls", "--type", "nonsense")[::2] == (
        2, "quorate: there is no primitive of type 'nonsense'\n"
    )  # fmt: skip
    assert json.loads(run("primitive", "info", "ls/m", "-w", "json")[1])["size"] == 1
    assert run("primitive", "delete", "ls/m") == (0, "", "")
    assert run("primitive", "delete", "ls/m", "--yes") == (3, "", "")
    assert run("primitive", "info", "ls/m") == (3, "", "")
    assert run("map", "get", "ls/m", "k") == (3, "", "")


def test_a_position_of_what_was_deleted_is_refused_in_a_line(run: Run) -> None:
    _, out, _ = run("map", "put", "gone", "k", "1", "--show-position", "-w", "jsonl")
    position = json.loads(out)["position"]
    run("primitive", "delete", "gone")
    for _ in range(2):
        code, out, err = run("map", "watch", "gone", "--position", position, "--timeout", "5s")
        assert (code, out, err.count("\n")) == (1, "", 1)
        run("map", "put", "gone", "k", "1")


def test_slots_of_a_primitive_and_of_a_key_are_located(run: Run) -> None:
    run("map", "put", "spread", "k", "v", "--partitions", "4")
    every = json.loads(run("slot", "locate", "spread", "-w", "json")[1])
    assert [place["partition"] for place in every] == [0, 1, 2, 3]
    assert json.loads(run("slot", "locate", "spread", "k", "-w", "jsonl")[1]) in every
    code, out, _ = run("slot", "locate", "nothing", "-w", "jsonl")
    assert (code, json.loads(out)["partition"]) == (3, None)


def test_groups_are_shown_as_their_leaders_see_them(run: Run) -> None:
    groups = json.loads(run("group", "ls", "-w", "json")[1])
    assert [(one["group"], one["leader"], one["replicas"]) for one in groups] == [
        (number, "n1", ["n1"]) for number in range(5)
    ]
    shown = json.loads(run("group", "show", "1", "-w", "json")[1])
    assert (shown["leader"], [one["node"] for one in shown["replicas"]]) == ("n1", ["n1"])
    assert "behind" in run("group", "show", "1")[1]
    assert run("group", "show", "99") == (3, "", "")
    assert run("group", "move-leader", "99", "n1") == (3, "", "")
    assert json.loads(run("group", "move-leader", "1", "n1", "-w", "json")[1])["moved"] is False
    code, _, err = run("group", "move-leader", "1", "n9")
    assert (code, err) == (1, "quorate: group 1 has no replica on a node n9; it has some on n1\n")


def test_a_session_is_shown_with_what_it_holds_and_can_be_ended(run: Run, dev: Dev) -> None:
    with subprocess.Popen(
        [*COMMAND, "lock", "run", "guard", "--session-timeout", "1s", "--", "sh", "-c",
         "echo $QUORATE_SESSION; sleep 60"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(QUORATE_URL=dev.url),
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        session = holder.stdout.readline().strip()
        rows = json.loads(run("session", "ls", "-w", "json")[1])
        mine = next(row for row in rows if row["id"] == session)
        assert (mine["holdings"], mine["ending"], len(mine["groups"])) == (1, False, 1)
        code, out, _ = run("session", "show", session[:12], "-w", "json")
        assert (code, json.loads(out)[0]["timeout_ms"]) == (0, 1000)
        assert run("session", "end", session[:12]) == (0, "", "")
        holder.communicate(timeout=30)
        assert holder.returncode == 8
    assert run("lock", "run", "guard", "--timeout", "10s", "--", "true")[0] == 0


def test_a_session_that_nobody_knows_is_code_3_and_no_id_is_code_2(run: Run) -> None:
    for command in ("show", "end"):
        assert run("session", command, "0" * 32)[0] == 3
        assert run("session", command, "0" * 31)[0] == 3
        assert run("session", command, "nonsense")[::2] == (
            2, "quorate: 'nonsense' is not a session's id, which has 32 hexadecimal digits\n"
        )  # fmt: skip
