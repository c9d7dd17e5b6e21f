"""Attacks that take more than their share (rows 13, 25 to 31, 33). Each ends by itself, whatever becomes of it."""

from collections.abc import Mapping

import guests
from security.attack import NOTHING, STRICT, Attack, BareProcess, LimitsOff, NoSandbox

from sandbox.limits import MIB, Deadline

SHORT = Deadline(cpu_seconds=1, wall_seconds=60)
IMPATIENT = Deadline(cpu_seconds=30, wall_seconds=1)
LARGE_FILES = {**STRICT, "file_bytes": 64 * MIB}  # for what is about memory

# Touched page by page: memory that is only asked for costs nothing
TOUCH = """
    import mmap, os
    def touch(memory):
        for page in range(0, len(memory), 4096): memory[page] = 1
    """


def limited(
    row: int,
    name: str,
    source: str,
    stopped: str,
    deadline: Deadline = guests.LONG,
    limits: Mapping[str, int] = STRICT,
    own_kernel: str | None = None,
) -> Attack:
    """Succeeds where limits are off."""
    return Attack(
        row=row,
        name=name,
        source=source,
        stopped=(stopped,),
        control=LimitsOff(),
        deadline=deadline,
        limits=limits,
        own_kernel=own_kernel,
    )


def raising(row: int, name: str, limit: str, value: int, own_kernel: str | None = None) -> Attack:
    """`value`: more than any limit of ours, less than machines give to everybody."""
    source = f"""
    import resource
    def attack(stage):
        resource.setrlimit(resource.{limit}, ({value}, {value}))
        return True
    """
    return Attack(
        row=row,
        name=name,
        source=source,
        stopped=("ValueError", "EPERM"),
        control=BareProcess(),
        own_kernel=own_kernel,
    )


EXHAUSTING = [
    limited(
        25,
        "a hundred processes",
        """
    import os, time
    def attack(stage):
        for _ in range(100):
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
        return True
    """,
        "EAGAIN",
    ),
    limited(
        25,
        "a hundred threads",
        """
    import threading, time
    def attack(stage):
        for _ in range(100): threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        return True
    """,
        "RuntimeError",
    ),
    limited(
        26,
        "1.2 GB of its own",
        TOUCH
        + """
    def attack(stage):
        hog = [bytearray(2**24) for _ in range(75)]
        for part in hog: touch(part)
        return True
    """,
        "out_of_memory",
    ),
    limited(
        26,
        "1.2 GB of shared memory",
        TOUCH
        + """
    def attack(stage):
        hog = [mmap.mmap(-1, 2**24, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) for _ in range(75)]
        for part in hog: touch(part)
        return True
    """,
        "out_of_memory",
    ),
    limited(
        26,
        "1.2 GB in files that have no name and are mapped nowhere",
        """
    import os
    def attack(stage):
        hog = [os.memfd_create(str(number)) for number in range(40)]
        for descriptor in hog:
            for _ in range(30): os.write(descriptor, bytes(2**20))
        return True
    """,
        "out_of_memory",
        limits=LARGE_FILES,
    ),
    limited(
        26,
        "1.2 GB in System V segments that nobody has attached",
        """
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    def attack(stage):
        for number in range(20):
            segment = libc.shmget(0, 60 * 2**20, 0o1600)  # IPC_PRIVATE
            if segment < 0: raise OSError(ctypes.get_errno(), "")
            address = libc.shmat(segment, None, 0)
            ctypes.memset(address, 1, 60 * 2**20)
            libc.shmdt(ctypes.c_void_p(address))
        return True
    """,
        "out_of_memory",
    ),
    limited(
        26,
        "1.2 GB in six processes",
        TOUCH
        + """
    import time
    def attack(stage):
        reader, writer = os.pipe()
        for _ in range(6):
            if os.fork() == 0:
                hog = bytearray(200 * 2**20)
                touch(hog)
                os.write(writer, b"x")
                time.sleep(20)
                os._exit(0)
        os.set_blocking(reader, False)
        ready = 0
        while ready < 6:
            if os.waitpid(-1, os.WNOHANG)[0]: os._exit(1)  # the kernel has killed one
            try: ready += len(os.read(reader, 6))
            except BlockingIOError: time.sleep(0.01)
        return True
    """,
        "out_of_memory",
    ),
    Attack(
        row=26,
        name="lock memory against being swapped",
        source="""
    import ctypes, os
    def attack(stage):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlock(ctypes.create_string_buffer(2**20), ctypes.c_size_t(2**20)): raise OSError(ctypes.get_errno(), "")
        return True
    """,
        stopped=("EPERM", "ENOMEM"),
        control=NoSandbox(root=True),
    ),
    *(
        limited(
            27,
            f"fill {place}",
            f"""
    def attack(stage):
        for number in range(30):
            with open(f"{place}/{{number}}", "wb") as f: f.write(bytes(2**20))
        return True
    """,
            "ENOSPC",
        )
        for place in ("/tmp", "/dev/shm")
    ),
    *(
        limited(
            27,
            f"a thousand files in {place}",
            f"""
    import os
    def attack(stage):
        for number in range(1000): os.mkdir(f"{place}/{{number}}")
        return True
    """,
            "ENOSPC",
            own_kernel="they lie in the guest's own memory, which is limited, and are gone with the session",
        )
        for place in ("/tmp", "/dev/shm")
    ),
    limited(
        27,
        "one large file",
        """
    def attack(stage):
        with open("big", "wb") as f:
            for _ in range(6): f.write(bytes(2**20))
        return True
    """,
        "EFBIG",
    ),
    limited(
        27,
        "a hundred open files",
        "def attack(stage): return len([open('/dev/null') for _ in range(100)]) == 100",
        "EMFILE",
    ),
    limited(
        28,
        "a loop",
        """
    import time
    def attack(stage):
        while time.process_time() < 3: pass
        return True
    """,
        "timed_out",
        SHORT,
    ),
    limited(
        28,
        "a loop that survives signals",
        """
    import signal, time
    def attack(stage):
        for number in (signal.SIGTERM, signal.SIGXCPU, signal.SIGALRM): signal.signal(number, signal.SIG_IGN)
        while time.process_time() < 3: pass
        return True
    """,
        "timed_out",
        SHORT,
    ),
    limited(
        28,
        "a loop in a child",
        """
    import os, time
    def attack(stage):
        if os.fork() == 0:
            while time.process_time() < 3: pass
            os._exit(0)
        os.wait()
        return True
    """,
        "timed_out",
        IMPATIENT,
    ),
    limited(28, "a sleep", "import time\ndef attack(stage): return time.sleep(3) is None", "timed_out", IMPATIENT),
    limited(
        28,
        "a deadlock",
        """
    import threading
    def attack(stage):
        lock = threading.Lock()
        lock.acquire()
        return not lock.acquire(timeout=3)
    """,
        "timed_out",
        IMPATIENT,
    ),
    limited(
        13,
        "clocks that say that no time passes",
        """
    import os, resource, time
    really = time.process_time
    for name in ("time", "monotonic", "perf_counter", "process_time"): setattr(time, name, lambda: 0.0)
    os.times = resource.getrusage = lambda *_: (0.0,) * 16
    def attack(stage):
        while really() < 3: pass
        return True
    """,
        "timed_out",
        SHORT,
    ),
    raising(13, "give itself more processor time", "RLIMIT_CPU", 10**6),
    raising(
        25,
        "give itself more processes",
        "RLIMIT_NPROC",
        1000,
        own_kernel="the guest's control group limits its processes",
    ),
    raising(27, "give itself larger files", "RLIMIT_FSIZE", 2**40),
    raising(33, "allow itself core dumps", "RLIMIT_CORE", 2**20),
    limited(30, "20 kB of output", "def attack(stage): return print('x' * 20_000) is None", "output_limit"),
    limited(
        30,
        "20 kB of complaints",
        "import os\ndef attack(stage): return os.write(2, b'x' * 20_000) == 20_000",
        "output_limit",
    ),
    limited(
        30,
        "20 kB of warnings",
        """
    import warnings
    def attack(stage):
        warnings.simplefilter("always")
        for _ in range(200): warnings.warn("x" * 100)
        return True
    """,
        "output_limit",
    ),
    limited(
        31,
        "a tensor of 4 MB",
        """
    import torch
    def attack(stage): return torch.ones(2**20)
    """,
        "output_limit",
    ),
    Attack(
        row=25,
        name="be served before all others",
        source="""
    import os
    def attack(stage):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        return True
    """,
        stopped=("EPERM", "EACCES"),
        control=NoSandbox(root=True),
        own_kernel="it comes before its own processes; the host knows nothing of it",
    ),
    Attack(
        row=25,
        name="be served in real time",
        source="""
    import os
    def attack(stage):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return True
    """,
        stopped=("EPERM", "ENOSYS", "EINVAL"),
        control=NoSandbox(root=True),
    ),
    Attack(
        row=33,
        name="leave a core dump",
        source="""
    import os, resource
    def attack(stage):
        try: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except ValueError: pass
        pid = os.fork()
        if pid == 0: os.abort()
        _, status = os.waitpid(pid, 0)
        return os.WCOREDUMP(status)
    """,
        stopped=(NOTHING,),
        control="where this machine keeps dumps is not the tests' to fill",
    ),
]
