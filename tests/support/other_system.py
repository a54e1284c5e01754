"""This process as if it ran on Windows or macOS: what they lack of the standard library is gone.

Torch, Lightning and MuJoCo are imported before: theirs for Linux must believe that they are there.
"""

import os
import pkgutil
import select
import signal
import sys
from importlib import import_module

MISSING = {
    "win32": {
        "": ["fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"],
        "os": [
            *("fork", "forkpty", "geteuid", "getuid", "getpgid", "getpriority", "getloadavg", "killpg", "memfd_create"),
            *("mkfifo", "nice", "pidfd_open", "posix_spawn", "register_at_fork", "sched_getaffinity", "setsid"),
            *("sched_setaffinity", "sysconf", "uname", "wait4", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK"),
        ],
        "signal": ["SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGQUIT", "alarm"],
        "select": ["poll", "epoll"],
        "errno": ["EDQUOT"],
    },
    "darwin": {
        "": [],
        "os": ["memfd_create", "pidfd_open", "sched_getaffinity", "sched_setaffinity", "eventfd"],
        "signal": ["pidfd_send_signal"],
        "select": ["epoll"],
        "errno": [],
    },
}
"""What each system lacks; under "" whole modules."""
BEFORE = ("torch", "torch.utils.tensorboard", "torch._dynamo", "torch.utils.flop_counter", "lightning.pytorch.cli")
MORE = ("mujoco", "torchmetrics", "jsonargparse", "subprocess", "tempfile", "matplotlib.figure", "gymnasium.vector")


def become(system: str) -> None:
    """Take from this process what `system` does not have."""
    for name in (*BEFORE, *MORE):
        import_module(name)
    standard = {"os": os, "signal": signal, "select": select, "errno": import_module("errno")}
    for place, names in MISSING[system].items():
        for name in names:
            if not place:
                sys.modules[name] = None  # type: ignore[assignment]  # `import name` raises ImportError
            elif hasattr(standard[place], name):
                delattr(standard[place], name)
    if system == "win32":
        known = {signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGINT, signal.SIGSEGV, signal.SIGTERM}
        signal.valid_signals = lambda: known
    for name, module in list(sys.modules.items()):
        if name.startswith("lightning.") and hasattr(module, "_IS_WINDOWS"):
            setattr(module, "_IS_WINDOWS", system == "win32")  # noqa: B010  (which is not known of a module)
    sys.platform = system


def import_everything() -> list[str]:
    """Import every module of the package; returns what each that cannot be imported says."""
    import epo_lightning

    faults = []
    for module in pkgutil.walk_packages(epo_lightning.__path__, "epo_lightning."):
        if ".worker.remote." in module.name or module.name.endswith("__main__"):
            continue  # of simulators' interpreters
        try:
            import_module(module.name)
        except Exception as error:
            faults.append(f"{module.name}: {type(error).__name__}: {error}")
    return faults
