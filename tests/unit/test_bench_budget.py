"""How ``python -m bench.budget`` reads profiles, tells steps apart, and shows them."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from bench_runs import MACHINE

from bench.budget.accounts import Account, between, mean
from bench.budget.flame import flame
from bench.budget.profilers import choose
from bench.budget.results import CLIENT, LEADER, OTHER, Budget, Loaded, Part
from bench.budget.shown import section
from bench.budget.stacks import Frame, collapsed, of_perf, of_spy
from bench.budget.steps import REST, STEPS, step_of
from bench.runs.sampling import ThreadTimes, threads

ROUND = Frame("Engine.round", "shards/engine")
SPIED = """\
0x7fbe (libc.so.6);run (trio/_core/_run.py:2532);Engine.round (shards/engine.py:228);CPyPy_peerqueue___PeerQueue___put (quorate__mypyc.cpython-311-x86_64-linux-gnu.so);CPyDef_peerqueue___PeerQueue___put (quorate__mypyc.cpython-311-x86_64-linux-gnu.so) 3
run (trio/_core/_run.py:2532);EpollIOManager.get_events (trio/_core/_io_epoll.py:243);epoll_wait (libc.so.6) 40
run (/lib/site-packages/trio/_core/_run.py:1);Link._write (/home/a/router/link.py:159);os_writev (libpython3.11.so.1.0);writev (libc.so.6) 2
"""  # noqa: E501
PERFED = """\
python   760/760  
\tffffffff81690cde kmem_cache_free+0x50a ([kernel.kallsyms])
\t          172d10 CPyDef_engine___Engine___round+0x1 (/lib/quorate__mypyc.cpython-311-x86_64-linux-gnu.so)
\t           fddc4 _PyEval_EvalFrameDefault+0x5 (/lib/libpython3.11.so.1.0)

rocksdb:low   760/763  
\t           fddc4 rocksdb::Compact(int) (/lib/rocksdict.abi3.so)

"""  # noqa: W291


def test_frames_of_py_spy_are_ours_by_module_whether_compiled_or_not() -> None:
    profile = of_spy(SPIED)
    trio = Frame("run", "trio/_core/_run")
    assert profile == {
        (trio, ROUND, Frame("PeerQueue.put", "shards/peerqueue")): 3,
        (trio, Frame("Link._write", "router/link"), Frame("os_writev", "libpython3.11"),
         Frame("writev", "[kernel]")): 2,
    }  # fmt: skip


def test_stacks_of_perf_are_told_apart_by_process_and_thread() -> None:
    found = of_perf(PERFED)
    assert found == {760: {
        760: {(Frame("_PyEval_EvalFrameDefault", "libpython3.11"), ROUND,
               Frame("kmem_cache_free", "[kernel]")): 1},
        763: {(Frame("rocksdb::Compact(int)", "rocksdict"),): 1},
    }}  # fmt: skip


def test_collapsed_stacks_say_how_often_each_was_seen() -> None:
    assert collapsed(Counter({(ROUND, Frame("f", "x")): 2})) == "Engine.round (shards/engine);f (x) 2\n"


@pytest.mark.parametrize(
    ("innermost", "of_node", "of_client"),
    [
        (Frame("f", "primitives/map"), "apply", "calls"),
        (Frame("f", "primitives/codec"), "decode and encode", "decode and encode"),
        (Frame("f", "raftgroup/leading"), "consensus", "consensus"),
        (Frame("f", "rocksdict"), "log write (RocksDB)", "log write (RocksDB)"),
        (Frame("f", "router/link"), "sockets", "sockets"),
        (Frame("f", "router/session"), "calls", "calls"),
        (Frame("f", "trio/_core/_run"), "event loop", "event loop"),
        (Frame("f", "[kernel]"), "kernel", "kernel"),
        (Frame("f", "bench/runs/loops"), "rounds", REST),
        (Frame("PyDict_GetItem", "libpython3.11"), "rounds", "rounds"),
    ],
)
def test_a_stack_belongs_to_its_innermost_frame_that_has_a_step(
    innermost: Frame, of_node: str, of_client: str
) -> None:
    assert step_of((ROUND, innermost), client=False) == of_node
    assert step_of((ROUND, innermost), client=True) == of_client
    assert step_of((Frame("main", "libc"),), client=False) == REST


def test_threads_are_the_first_rocksdbs_and_others() -> None:
    before = {1: ThreadTimes("python", 1.0, 1.0), 2: ThreadTimes("rocksdb:low", 0.5, 0.0)}
    after = {
        1: ThreadTimes("python", 3.0, 1.5), 2: ThreadTimes("rocksdb:low", 0.75, 0.25),
        3: ThreadTimes("python", 0.25, 0.5),
    }  # fmt: skip
    found = between(1, before, after)
    assert found == Account(user=2.0, system=0.5, sync=0.75, rocksdb=0.5)
    assert mean([found, Account()]) == found.scaled(0.5)


def test_a_process_that_is_gone_has_no_threads() -> None:
    with pytest.raises(ProcessLookupError, match="there is no process"):
        threads(2**22 + 1)


def part(process: str, **samples: int) -> Part:
    return Part(process=process, account=Account(user=8, system=2, sync=1, rocksdb=3), samples=samples)


def test_samples_divide_only_the_programs_own_time() -> None:
    found = part(LEADER, apply=3, consensus=1, kernel=10).steps()
    assert found["apply"] == 6
    assert found["consensus"] == 2
    assert (found["kernel"], found["sync thread"], found["RocksDB background"]) == (2, 1, 3)
    assert sum(found.values()) == 14
    assert part(LEADER).steps()[REST] == 8, "without samples it is not told apart"


def test_all_processes_together_count_each_other_node() -> None:
    load = Loaded(callers=64, operations_per_second=1000, p50_ms=1, nodes=3,
                  parts=[part(CLIENT), part(LEADER, apply=1), part(OTHER)])  # fmt: skip
    assert load.whole == 4 * 14
    shown = section(Budget(began="now", command="c", machine=MACHINE, product="p", profiler="", loads=[load]))
    assert list(shown.head) == ["µs a write", "64: client", "64: leading node", "64: each other node"]
    assert list(shown.rows[-1]) == ["together", "14.0", "14.0", "14.0"]
    assert all(colour == STEPS.index(name) for colour, name in shown.legend)
    assert shown.panels[0].svg.count("var(--s8)") == 1, "the colour of apply"


def test_a_flame_graph_has_a_box_for_each_call_as_wide_as_its_part() -> None:
    profile = Counter({(ROUND, Frame("a<b>", "raftgroup/log")): 3, (ROUND,): 1, (Frame("x", "y"),): 10_000})
    text = flame("leader", "All.", profile, client=False)
    assert "a&lt;b&gt; (raftgroup/log), 3 samples: consensus" not in text, "too narrow to be seen"
    text = flame("leader", "All.", Counter({key: profile[key] for key in list(profile)[:2]}), client=False)
    assert "<title>Engine.round (shards/engine), 4 samples: rounds</title>" in text
    inner = "<title>a&lt;b&gt; (raftgroup/log), 3 samples: consensus</title>"
    assert f'{inner}<rect x="0.0" y="17" width="900.0"' in text


def test_a_profiler_that_is_missing_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("bench.budget.profilers.sys.executable", "/nowhere/python")
    found, why = choose()
    assert found is None
    assert why.startswith("py-spy is missing: make install-bench brings it")
