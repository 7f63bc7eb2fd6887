"""Processor time of the tests, children included, and the programs they start; an exit code where a limit is passed.

    pytest --cpu-limit 1000

Wall time depends on what else the machine does; processor time hardly does. What no test accounts for (the start of the
workers, imports while tests are collected) has a row of its own. A program that a test starts imports torch again,
which is why their number has a limit too. A family of models has a limit for its own tests: there will be many more.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

START = pytest.StashKey[tuple[float, int]]()
SPENT: Counter[str] = Counter()  # seconds of each test; in a worker, of its own tests
STARTED: Counter[str] = Counter()  # programs that each test started
COLLECTION = "start and collection"
NUM_PROGRAMS = 30  # as many as the fast tests may start
FAST_FAMILY_S, SLOW_FAMILY_S = 15.0, 40.0  # processor time of the tests of a family
FAMILIES = {path.stem for path in (Path(__file__).parents[1] / "conf" / "model").glob("[!_]*.yaml")}
NUM_SHOWN = 25


class Counted(subprocess.Popen):  # type: ignore[type-arg]
    """A program that is counted when it starts: Python or a shell, but for the stand-in of runs in tests of sweeps."""

    number = 0

    def __init__(self, args: Any, *more: Any, **kwargs: Any) -> None:
        words = [args] if isinstance(args, str) else list(map(str, args))
        counts = Path(words[0]).name.startswith(("python", "bash", "zsh", "fish"))
        Counted.number += counts and not any(word.endswith("verb.py") for word in words[:2])
        super().__init__(args, *more, **kwargs)


def cpu_s() -> float:
    """Return the processor seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-limit", type=float, metavar="SECONDS", help="fail if the tests take more processor time")


def pytest_sessionstart() -> None:
    subprocess.Popen = Counted  # type: ignore[misc]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[START] = cpu_s(), Counted.number


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    report = yield
    if call.when == "teardown":
        seconds, number = item.stash[START]
        report.user_properties += [("cpu_s", cpu_s() - seconds), ("programs", Counted.number - number)]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        properties = dict(report.user_properties)
        SPENT[report.nodeid] += properties.get("cpu_s", 0.0)
        STARTED[report.nodeid] += properties.get("programs", 0)


def folder(nodeid: str) -> str:
    """Return the folder of a test, or its file where that lies in no folder of `tests`."""
    return "/".join(nodeid.partition("::")[0].split("/")[:2])


def family(nodeid: str) -> str | None:
    """Return the family that a test is of: its file or a word of its parameters is called like an option of `model`."""
    if folder(nodeid) not in ("tests/contract", "tests/models", "tests/parity"):
        return None
    file, _, name = nodeid.partition("::")
    words = [Path(file).stem.removeprefix("test_"), *re.split(r"[^\w]+", name.partition("[")[2].lower())]
    return next((word for word in words if word in FAMILIES), None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    SPENT[COLLECTION] += getattr(node, "workeroutput", {}).get("rest_s", 0.0)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    rest = cpu_s() - sum(SPENT.values())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["rest_s"] = rest
    elif not session.config.getoption("numprocesses", None):
        SPENT[COLLECTION] += rest
    if session.config.getoption("--cpu-limit") and excess(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    limit = config.getoption("--cpu-limit")
    if limit is None:
        return
    line = terminalreporter.write_line
    terminalreporter.section("processor time, children included, and programs started")
    folders, programs = Counter[str](), Counter[str]()
    for test, spent in SPENT.items():
        folders[folder(test)] += spent
        programs[folder(test)] += STARTED[test]
    for name, spent in folders.most_common():
        line(f"{spent:8.1f} s {programs[name]:4}  {name}")
    line(f"{sum(SPENT.values()):8.1f} s {STARTED.total():4}  in all")
    terminalreporter.section("tests that took most")
    for test, spent in SPENT.most_common(NUM_SHOWN):
        line(f"{spent:8.1f} s {STARTED[test]:4}  {test}")
    terminalreporter.section("families of models that took most")
    for name, spent in families().most_common(10):
        line(f"{spent:8.1f} s       {name}")
    for sentence in excess(config):
        line(sentence, red=True)


def families() -> Counter[str]:
    """Return the seconds that each family of models took in its own tests."""
    found = Counter[str]()
    for test, spent in SPENT.items():
        if name := family(test):
            found[name] += spent
    return found


def excess(config: pytest.Config) -> list[str]:
    """Return a sentence for each limit that is passed."""
    limit = config.getoption("--cpu-limit")
    fast = "not slow" in config.getoption("markexpr")
    found = []
    family_s = FAST_FAMILY_S if fast else SLOW_FAMILY_S
    for name, spent in families().items():
        if spent > family_s:
            found.append(f"The tests of {name} took {spent:.1f} s: a family may take {family_s:.0f} s.")
    if sum(SPENT.values()) > limit:
        found.append(f"The tests took more than {limit:.0f} s.")
    if STARTED.total() > NUM_PROGRAMS and fast:
        found.append(f"The fast tests started more than {NUM_PROGRAMS} programs: call a function or CliRunner instead.")
    return found
