"""Processor time of the tests, children included: a table per folder, and an exit code where a limit is passed.

    pytest --cpu-limit 1200

Wall time depends on what else the machine does; processor time hardly does. What no test accounts for (the start of the
workers, imports while tests are collected) has a row of its own.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

START = pytest.StashKey[float]()
SPENT: Counter[str] = Counter()  # seconds for each folder; in a worker, of its own tests
COLLECTION = "start and collection"


def cpu_s() -> float:
    """Return the processor seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-limit", type=float, metavar="SECONDS", help="fail if the tests take more processor time")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[START] = cpu_s()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    report = yield
    if call.when == "teardown":
        report.user_properties.append(("cpu_s", cpu_s() - item.stash[START]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        SPENT[folder(report.nodeid)] += dict(report.user_properties).get("cpu_s", 0.0)


def folder(nodeid: str) -> str:
    """Return the folder of a test, or its file where that lies in no folder of `tests`."""
    return "/".join(nodeid.partition("::")[0].split("/")[:2])


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
    limit = session.config.getoption("--cpu-limit")
    if limit and sum(SPENT.values()) > limit and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    limit = config.getoption("--cpu-limit")
    if limit is None:
        return
    total = sum(SPENT.values())
    terminalreporter.section("processor time, children included")
    for name, spent in SPENT.most_common():
        terminalreporter.write_line(f"{spent:8.1f} s  {name}")
    verdict = "more than" if total > limit else "within"
    terminalreporter.write_line(f"{total:8.1f} s  in all, {verdict} the limit of {limit:.0f} s")
