"""A run that is interrupted or killed, and the same command again: nothing lost, and the same records to the last bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import files, records

COMMAND = [sys.executable, str(Path(__file__).parent / "small_cli.py"), "run"]
COMMAND += ["--methods", "vanilla_gradients,grad_cam", "--n", "24", "--batch", "16"]
COMMAND += ["--metrics", "deletion,insertion,pointing_game,model_weight_randomization"]


def start(out):
    """The command in a process of its own, in which Ctrl-C works whoever started the tests."""
    (out / "cardgen.yaml").write_text("thresholds: {resamples: 200}\n")
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), "--config", str(out / "cardgen.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(process):
    """The rest of what it said, and its exit status."""
    said, complained = process.communicate(timeout=240)
    return process.returncode, said, complained


def stop(process, out, how, after):
    """Send a signal once some records are on disk."""
    give_up = time.monotonic() + 240
    while time.monotonic() < give_up and process.poll() is None:
        if len(measured(out)) >= after:
            process.send_signal(how)
            return
        time.sleep(0.005)
    pytest.fail(f"ended before it could be stopped: {process.communicate()}")


def measured(out):
    return [path for path in (out / "evaluations").rglob("*.json") if path.name not in ("subject.json", "method.json")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    status, _, complained = end(start(out))
    assert (status, complained) == (0, "")
    return out


def test_killed_twice_and_run_again_gives_the_same_records_and_cards(whole, tmp_path):
    for after in (3, len(measured(whole)) - 4):
        process = start(tmp_path)
        stop(process, tmp_path, signal.SIGKILL, after)
        assert end(process)[0] == -signal.SIGKILL
        assert after <= len(measured(tmp_path)) < len(measured(whole))
    survived = {path: found for path, found in files(tmp_path / "evaluations").items() if path in measured(tmp_path)}
    status, said, complained = end(start(tmp_path))
    assert (status, complained) == (0, "")
    assert f"{len(measured(whole)) - len(survived)} evaluations measured, {len(survived)} up to date." in said
    after = files(tmp_path / "evaluations")
    assert {path: after[path] for path in survived} == survived
    assert records(tmp_path) == records(whole)
    assert cards(tmp_path) == cards(whole)


def cards(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted((out / "cards").rglob("*")) if path.is_file()}


def test_ctrl_c_ends_in_130_says_how_to_go_on_and_the_same_command_does(whole, tmp_path):
    process = start(tmp_path)
    stop(process, tmp_path, signal.SIGINT, 5)
    status, said, complained = end(process)
    assert status == 130
    assert complained.strip() == "Stopped. Every finished evaluation is stored; the same command goes on from there."
    assert "Traceback" not in said
    stored = len(measured(tmp_path))
    assert 5 <= stored < len(measured(whole))
    assert not list((tmp_path / "evaluations").rglob(".*.json.*")), "half a file was left behind"
    status, said, _ = end(start(tmp_path))
    assert status == 0
    assert f"{stored} up to date." in said
    assert records(tmp_path) == records(whole)
    assert cards(tmp_path) == cards(whole)
