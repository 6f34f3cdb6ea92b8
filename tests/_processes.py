"""Processes that start warm: forked from a server that has imported everything and computed nothing.

A fresh interpreter takes about ten seconds to import torch, Lightning and segaudit; a fork of the server takes none of them.
Each test process starts one server, when a test first asks for a process.
"""

import gc
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "segaudit.cli.program", "segaudit.benchmark", "segaudit.report", "segaudit.testing", "torch.utils.tensorboard",
        "torch.distributed", "matplotlib.backends.backend_agg", "pandas", "pyarrow.compute", "pyarrow.parquet",
    ]
)  # fmt: skip


class Job:
    """A process that runs a function; its folder, its environment and its standard streams are its own.

    Args:
        function: what it runs; found by its module and name, as for pickles.
        arguments: of the function.
        log: the file to which it appends what it prints.
        folder: the working folder. Defaults to that of this process.
        environment: variables beside those of this process.
        argv: the command line that the process sees.

    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        argv: Sequence[str] = ("segaudit",),
    ) -> None:
        self.log = log
        setting = (str(log), str(folder or Path.cwd()), dict(os.environ) | dict(environment or {}), [*map(str, argv)])
        self.process = FORKS.Process(target=_work, args=(setting, function, arguments))
        self.process.start()

    @property
    def running(self) -> bool:
        """Tell whether the process has not ended."""
        return self.process.exitcode is None

    def kill(self) -> None:
        """End the process as a machine that stops would."""
        self.process.kill()  # one that has ended waits to be asked, and takes no harm

    def wait(self, seconds: float = 300.0) -> int:
        """Return the exit status, negative for the signal that killed the process.

        Raises:
            TimeoutError: if the process does not end in time; it is killed.

        """
        self.process.join(seconds)
        if self.running:
            self.kill()
            self.process.join()
            raise TimeoutError(f"not ready after {seconds} s:\n{self.printed()[-6000:]}")
        status = self.process.exitcode
        assert status is not None
        return status

    def printed(self) -> str:
        """Return what the process printed, to both streams."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def run(function: Callable[..., Any], *arguments: Any, log: Path, **options: Any) -> str:
    """Run a function in a process of its own that must end well, and return what it prints."""
    job = Job(function, *arguments, log=log, **options)
    assert job.wait() == 0, job.printed()[-6000:]
    return job.printed()


def run_ranks(world: int, function: Callable[..., Any], *arguments: Any, log: Path, seconds: float = 300.0) -> None:
    """Run a function in several processes with the environment that ``torch.distributed.run`` gives to its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "tests"}
    common |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    jobs = []
    for rank in range(world):
        own = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        jobs.append(Job(function, *arguments, log=log.with_suffix(f".{rank}.log"), environment=own))
    end = time.monotonic() + seconds
    while any(job.running for job in jobs) and not any(job.process.exitcode for job in jobs) and time.monotonic() < end:
        time.sleep(0.02)
    failed = [job for job in jobs if job.process.exitcode != 0]
    for job in failed:  # the others wait for one that has failed
        job.kill()
        job.process.join()
    assert not failed, "\n".join(job.printed()[-6000:] for job in failed)


class Kernel:
    """A notebook's kernel as a fork of the server; used as the `subprocess.Popen` that jupyter_client would make.

    Args:
        command: of the kernel that it stands for: `python -m <module> -f <file> …`.
        environment: all variables of the process.
        folder: the working folder.

    """

    stdin = stdout = stderr = None

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
        arguments = [*command[command.index("-m") + 2 :]]
        log = Path(arguments[arguments.index("-f") + 1]).with_suffix(".log")
        self.job = Job(_be_kernel, arguments, log=log, folder=Path(folder), environment=environment)
        assert self.job.process.pid
        self.pid = self.job.process.pid
        while self.job.running and os.getpgid(self.pid) != self.pid:  # signals go to a kernel's group, which must be its own
            time.sleep(0.01)

    def poll(self) -> int | None:
        return self.job.process.exitcode

    def wait(self) -> int | None:
        self.job.process.join()
        return self.job.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.job.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.job.kill()

    terminate = kill


def _be_kernel(arguments: list[str]) -> None:
    os.setsid()
    import matplotlib as mpl
    from ipykernel.kernelapp import IPKernelApp

    mpl.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # a variable of kernels says so before the import
    tempfile.tempdir = None  # which the server may have asked for in another environment
    IPKernelApp.launch_instance(argv=arguments)
    IPKernelApp.instance().shell.user_ns.clear()  # an interpreter that ends would clean up; a fork stops at once
    gc.collect()


def unread(function: Callable[..., Any], *arguments: Any) -> None:
    """Run a function whose standard output has no reader any more, as before a `head` that has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.close(writer)
    function(*arguments)


def die_while_writing(path: Path) -> None:
    """Kill this process half-way through an atomic write."""
    from segaudit.records.files import atomic_write

    with atomic_write(path) as draft:
        draft.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def print_modules(*packages: str) -> None:
    """Print which modules of some packages are imported."""
    print(*(name for name in sys.modules if name.split(".")[0] in packages))


def print_installed(folder: Path) -> None:
    """Import segaudit from another folder, and print where it and its callbacks come from."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("segaudit", "callbacks")]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(place for place in sys.path if not Path(place, "segaudit").exists())]
    import segaudit.callbacks

    print(segaudit.__file__)
    print(segaudit.callbacks.AttributionAudit.__module__, segaudit.callbacks.__file__)
    strangers = {
        name: module.__file__
        for name, module in sys.modules.items()
        if name.split(".")[0] == "segaudit" and not Path(module.__file__ or "").is_relative_to(folder)
    }
    assert not strangers, strangers


def _work(
    setting: tuple[str, str, dict[str, str], list[str]], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Run the function in the folder, the environment and the streams that it was promised."""
    log, folder, environment, sys.argv = setting
    into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(into, 1)
    os.dup2(into, 2)
    os.close(into)
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    import torch
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    torch.set_num_threads(1)
    rank_zero_only.rank = int(environment.get("RANK", 0))  # which Lightning reads when it is imported
    function(*arguments)
