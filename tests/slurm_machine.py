"""A real SLURM on this machine for tests: munged, slurmctld and slurmd in a folder of their own, on free ports."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
DAEMONS = ("slurmd", "slurmctld", "munged")  # in the order of their end
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

CONFIGURATION = """
ClusterName=peftbench-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=20
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing() -> str:
    """Why no SLURM can be started here; empty where it can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    return f"SLURM is not here, no {', '.join(absent)}: apt-get install slurm-wlm munge" if absent else ""


def slurm(*command: str) -> str:
    """What a command of SLURM prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": PATH})
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def waiting_or_running() -> dict[str, str]:
    """Task to its state."""
    return dict(line.split() for line in slurm("squeue", "--noheader", "--array", "--format=%i %T").splitlines())


@contextmanager
def one_machine(folder: Path):
    """A cluster of this machine with two cores, in which jobs of partition `high` preempt those of `low`."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    host = socket.gethostname().partition(".")[0]
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(host=host, ports=ports, folder=folder, user=getpass.getuser()))
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ.update(SLURM_CONF=str(file), PATH=PATH)
    try:
        # By force, for the folders above are closed to other users, who have no business there.
        slurm("munged", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
              f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
              f"--seed-file={folder}/munge.seed")  # fmt: skip
        slurm("slurmctld", "-f", str(file))
        slurm("slurmd", "-f", str(file))
        _until_idle()
        yield
    finally:
        _empty_the_queue()
        _end_all(folder)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _until_idle() -> None:
    end = time.monotonic() + 30
    while (
        "idle" not in subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True).stdout
    ):
        assert time.monotonic() < end, "the node of the test cluster did not come up"
        time.sleep(0.2)


def _empty_the_queue() -> None:
    end = time.monotonic() + 30
    done = subprocess.run(["scancel", f"--user={os.getuid()}"], timeout=60, capture_output=True)
    while done.returncode == 0 and time.monotonic() < end and waiting_or_running():
        time.sleep(0.2)


def _end_all(folder: Path) -> None:
    end = time.monotonic() + 30
    for name in DAEMONS:
        file = folder / f"{name}.pid"
        if not file.is_file():
            continue
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists(), f"{name} did not end"
