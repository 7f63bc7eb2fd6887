"""A SLURM of one node on loopback, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEEDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONF = """
ClusterName=tfcli
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={work}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd.pid
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=300
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=500 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=10 OverSubscribe=FORCE:4
"""


class Unavailable(Exception):
    """Why SLURM cannot start here."""


@contextmanager
def slurm(work: Path) -> Iterator[dict[str, str]]:
    """Start munged, slurmctld and slurmd below `work`, and stop them. Yields what the environment needs to reach them.

    Raises:
        Unavailable: not root, not installed, or it does not come up; with the reason.
    """
    if os.geteuid() != 0:
        raise Unavailable("SLURM's daemons want root")
    missing = [name for name in NEEDS if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    if missing:
        raise Unavailable(f"{', '.join(missing)}: not installed (apt-get install slurm-wlm munge)")
    started: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "SLURM_CONF": str(work / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}

    def start(*words: str) -> None:
        with open(work / f"{words[0]}.out", "wb") as log:
            started.append(subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True))

    try:
        work.chmod(0o755)
        for name in ("state", "spool"):
            (work / name).mkdir()
        key = work / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        cores = len(os.sched_getaffinity(0))
        (work / "slurm.conf").write_text(
            CONF.format(host=socket.gethostname(), work=work, ports=free_ports(2), cores=cores)
        )
        start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={work}/munge.socket",
            f"--key-file={key}",
            f"--log-file={work}/munged.log",
            f"--pid-file={work}/munged.pid",
            f"--seed-file={work}/munged.seed",
        )
        wait(lambda: (work / "munge.socket").exists(), "munged does not start", work / "munged.out")
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait(lambda: "idle" in ask(environment), "no node becomes idle", work / "slurmctld.log")
        yield {"SLURM_CONF": environment["SLURM_CONF"]}
    finally:
        for process in reversed(started):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(environment: dict[str, str]) -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout


def wait(condition, why: str, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            raise Unavailable(f"{why}: {said[-1] if said else 'it says nothing'}")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
