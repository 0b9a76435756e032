"""Servers of peers: their command lines and files, and processes that start, fail to, and stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers.etcd_server import command as etcd_command
from bench.peers.installing import first, missing_file, missing_module, missing_program
from bench.peers.nats_server import configuration as nats_configuration
from bench.peers.pipeline_server import command as pipeline_command
from bench.peers.pysyncobj_server import Periods
from bench.peers.pysyncobj_server import command as pysyncobj_command
from bench.peers.serving import Servers, make_directory
from bench.peers.zookeeper_server import configuration as zookeeper_configuration

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_etcd_nodes_know_each_other_and_listen_on_loopback_alone(tmp_path: Path) -> None:
    names = ["n1", "n2", "n3"]
    command = etcd_command(names, [1, 2, 3], [4, 5, 6], 1, tmp_path)
    assert option(command, "--name") == "n2"
    cluster = "n1=http://127.0.0.1:4,n2=http://127.0.0.1:5,n3=http://127.0.0.1:6"
    assert option(command, "--initial-cluster") == cluster
    assert option(command, "--listen-client-urls") == "http://127.0.0.1:2"
    assert option(command, "--listen-peer-urls") == "http://127.0.0.1:5"
    assert option(command, "--data-dir") == str(tmp_path)
    assert not any("no-fsync" in word for word in command)


def test_zookeeper_of_three_has_a_quorum_and_its_log_in_a_directory_of_its_own(tmp_path: Path) -> None:
    lines = zookeeper_configuration(tmp_path, 1, [4, 5, 6], [7, 8, 9]).splitlines()
    assert "server.2=127.0.0.1:5:8" in lines
    assert f"dataLogDir={tmp_path}/log" in lines
    assert f"dataDir={tmp_path}/snapshots" in lines
    assert not any("forceSync" in line for line in lines)


def test_zookeeper_of_one_runs_without_a_quorum(tmp_path: Path) -> None:
    assert "server." not in zookeeper_configuration(tmp_path, 1, [4], [7])


def test_nats_of_three_is_a_cluster_and_of_one_is_not(tmp_path: Path) -> None:
    assert "nats-route://127.0.0.1:6" in nats_configuration("n1", tmp_path, 1, 2, 4, [4, 5, 6])
    assert "cluster" not in nats_configuration("n1", tmp_path, 1, 2, 4, [4])


def test_a_pysyncobj_node_is_told_of_all_others_but_itself(tmp_path: Path) -> None:
    command = pysyncobj_command(tmp_path, [4, 5, 6], 7, 1, Periods(0.002, 0.003))
    assert option(command, "--own") == "127.0.0.1:5"
    assert option(command, "--others") == "127.0.0.1:4,127.0.0.1:6"
    assert option(command, "--tick-seconds") == "0.002"
    assert option(command, "--append-seconds") == "0.003"


def test_the_pipeline_is_led_by_whoever_is_given_followers(tmp_path: Path) -> None:
    assert "--followers" not in pipeline_command(tmp_path, 5)
    assert option(pipeline_command(tmp_path, 5, [6, 7]), "--followers") == "6,7"


def test_what_a_server_said_is_in_the_error_when_it_ends_instead_of_serving(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.start("n1", SLEEPER)
    servers.start("n2", [sys.executable, "-c", "print('the port is taken'); raise SystemExit(3)"])
    survivor = servers.pids[0]
    with pytest.raises(RuntimeError, match=r"(?s)n2 ended with code 3 instead of serving.*the port is taken"):
        servers.wait(lambda: False)
    with pytest.raises(ProcessLookupError):
        os.kill(survivor, 0)


def test_servers_that_do_not_serve_in_time_are_stopped(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.start("n1", SLEEPER)
    with pytest.raises(RuntimeError, match=r"not all of n1 served within 0 s"):
        servers.wait(lambda: False, seconds=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(servers.pids[0], 0)


def test_a_server_that_refuses_at_first_is_asked_again(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.start("n1", SLEEPER)
    answers = iter([ConnectionRefusedError(), None])

    def is_ready() -> bool:
        if (error := next(answers)) is not None:
            raise error
        return True

    servers.wait(is_ready)
    servers.stop()
    servers.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(servers.pids[0], 0)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_is_killed_is_started_again_and_one_that_ends_is_not(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.start("n1", SLEEPER)
    servers.start("n2", SLEEPER)
    servers.keep()
    killed, ended = servers.pids
    os.kill(killed, signal.SIGKILL)
    os.kill(ended, signal.SIGTERM)
    until(lambda: servers.pids[0] != killed)
    until(lambda: not Path(f"/proc/{ended}").exists())
    again = servers.pids[0]
    assert Path(f"/proc/{again}").exists()
    assert servers.pids[1] == ended
    servers.stop()
    until(lambda: not Path(f"/proc/{again}").exists())
    assert servers.pids[0] == again


def test_no_server_is_started_again_after_the_stop(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
    servers = Servers(tmp_path, stop_seconds=0.5)
    servers.start("n1", [sys.executable, "-c", deaf + "time.sleep(60)"])
    servers.wait(lambda: "\ndeaf" in (tmp_path / "n1.log").read_text())
    servers.keep()
    servers.stop()
    (pid,) = servers.pids
    time.sleep(0.2)
    assert servers.pids == [pid]
    assert not Path(f"/proc/{pid}").exists()


def test_the_target_begins_with_whoever_leads_now(tmp_path: Path) -> None:
    leading = "b"

    def leads(address: str) -> bool:
        if address == "c":
            raise ConnectionRefusedError
        return address == leading

    servers = Servers(tmp_path, leads)
    for name in ("n1", "n2", "n3"):
        servers.start(name, SLEEPER)
    servers.addresses = ["a", "b", "c"]
    one, two, three = servers.pids
    assert servers.placed() == [("b", two), ("a", one), ("c", three)]
    leading = "a"
    assert servers.target == "a,b,c"
    servers.stop()


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"n1 cannot be started: .*no-such-server"):
        Servers(tmp_path).start("n1", ["/no-such-server"])


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (make_directory(tmp_path, "n1") / "left").touch()
    with pytest.raises(RuntimeError, match="is not empty: a cluster is started in a fresh directory"):
        make_directory(tmp_path, "n1")


def test_what_is_missing_is_said_with_how_to_install_it(tmp_path: Path) -> None:
    said = missing_program("no-such-server", "some-package")
    assert said == (
        "no-such-server is not installed: run `make install-peers` as root, or `apt-get install some-package`"
    )
    assert missing_program("sh", "dash") is None
    said = missing_module("no_such_module", "some-client")
    assert said == "the Python package some-client is not installed: run `make install-peers`"
    assert missing_module("trio", "trio") is None
    gone = tmp_path / "gone"
    assert missing_file(gone, "it is not built", "build it") == f"it is not built ({gone}): build it"
    assert first([None, "one", "two"]) == "one"
    assert first([None]) is None
