"""Attacks that read what is secret, and on other processes (rows 9, 16, 20 to 24)."""

from security.attack import ABSENT, NOTHING, REFUSED, Attack, BareProcess, NoSandbox

# Looks through a file of every process that can be seen
EVERY_PROCESS = """
    import os
    def attack(stage):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{{pid}}/{file}", errors="replace") as f: text = f.read()
            except OSError: continue
            if "{what}" in text: return text
    """

# Where the words of a process's command line and environment stand in its memory
STACK = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    def checked(result):
        if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
    def stack(pid):
        for line in open(f"/proc/{pid}/maps"):
            if "[stack]" in line: return [int(end, 16) for end in line.split()[0].split("-")]
    def where_it_may_be(pid):
        try: return stack(pid)
        except OSError: return 0x7FFFF7FDE000, 0x7FFFF7FFF000
    """

READING = [
    Attack(
        row=9,
        name="read the memory of another process in /proc",
        source=STACK
        + """
    def attack(stage):
        begin, end = stack(stage["pid"])
        with open(f"/proc/{stage['pid']}/mem", "rb") as memory:
            memory.seek(begin)
            return memory.read(end - begin).decode("latin-1")
    """,
        stopped=ABSENT,
        control=NoSandbox(root=True),
    ),
    Attack(
        row=9,
        name="read the memory of another process with process_vm_readv",
        source=STACK
        + """
    def attack(stage):
        begin, end = where_it_may_be(stage["pid"])
        buffer = ctypes.create_string_buffer(end - begin)
        here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), end - begin)
        there = (ctypes.c_size_t * 2)(begin, end - begin)
        checked(libc.process_vm_readv(stage["pid"], here, 1, there, 1, 0))
        return buffer.raw.decode("latin-1")
    """,
        stopped=(*REFUSED, "ESRCH"),
        control=NoSandbox(root=True),
    ),
    Attack(
        row=9,
        name="trace another process",
        source=STACK
        + """
    def attack(stage):
        checked(libc.ptrace(16, stage["pid"], None, None))  # PTRACE_ATTACH
        os.waitpid(stage["pid"], 0)
        checked(libc.ptrace(17, stage["pid"], None, None))  # PTRACE_DETACH
        return True
    """,
        stopped=(*REFUSED, "ESRCH"),
        control=NoSandbox(root=True),
    ),
    Attack(
        row=9,
        name="take a descriptor out of another process",
        source=STACK
        + """
    def attack(stage):
        try: pidfd = os.pidfd_open(stage["pid"])
        except OSError: pidfd = os.pidfd_open(os.getpid())  # at least its own
        return checked(libc.syscall(438, pidfd, 0, 0)) >= 0  # pidfd_getfd
    """,
        stopped=REFUSED,
        control=NoSandbox(root=True),
    ),
    Attack(
        row=9,
        name="kill another process",
        source="""
    import os, time
    def attack(stage):
        os.kill(stage["pid"], 9)
        time.sleep(0.2)
    """,
        stopped=("ESRCH", "EPERM"),
        control=NoSandbox(),
    ),
    Attack(
        row=9,
        name="kill its process group, and with it the sessions to come",
        source="""
    import os, time
    def attack(stage):
        time.sleep(0.7)  # until the process for the next session stands ready
        os.kill(0, 9)
    """,
        # NOTHING: the first process of a PID namespace is spared what it sends itself
        stopped=("crashed", NOTHING),
        control="without a sandbox, too, a session leads a process group of its own",
    ),
    Attack(
        row=9,
        name="interrupt its process group, and with it the sessions to come",
        source="""
    import os, signal, time
    def attack(stage):
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1): signal.signal(number, signal.SIG_IGN)
        time.sleep(0.7)  # until the process for the next session stands ready
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1): os.kill(0, number)
    """,
        stopped=(NOTHING,),
        control="without a sandbox, too, a session leads a process group of its own",
    ),
    Attack(
        row=9,
        name="stop its process group, so that the judge waits for ever",
        source="""
    import os, time
    def attack(stage):
        if os.fork() == 0:
            time.sleep(1)
            os.kill(0, 18)  # ends by itself, whatever it has stopped: SIGCONT
            os._exit(0)
        time.sleep(0.7)
        os.kill(0, 19)  # SIGSTOP
    """,
        stopped=(NOTHING, "timed_out"),
        control="without a sandbox, too, a session leads a process group of its own",
    ),
    Attack(
        row=16,
        name="read a file of the judge's",
        source="def attack(stage): return open(stage['file']).read()",
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=16,
        name="read the reference solution",
        source="def attack(stage): return 'alphas_cumprod' in open(stage['solution']).read()",
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=16,
        name="read through a symbolic link",
        source="""
    import os
    def attack(stage):
        os.symlink(stage["file"], "link")
        try: return open("link").read()
        finally: os.unlink("link")
    """,
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=16,
        name="read through a hard link",
        source="""
    import os
    def attack(stage):
        os.link(stage["file"], "hard")
        return open("hard").read()
    """,
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=16,
        name="climb out with dots",
        source="def attack(stage): return open('../' * 20 + stage['file']).read()",
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=16,
        name="map the solution as a module",
        source="""
    import importlib.util, sys
    def attack(stage):
        spec = importlib.util.spec_from_file_location("solution", stage["solution"])
        spec.loader.get_code("solution")
        return True
    """,
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=20,
        name="look through /tmp for others",
        source="""
    import os
    def attack(stage): return [name for name in os.listdir("/tmp") if name in stage["folder"]] != []
    """,
        stopped=(NOTHING,),
        control=NoSandbox(),
    ),
    Attack(
        row=20,
        name="read the accounts of this machine",
        source="def attack(stage): return 'root' in open('/etc/passwd').read()",
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=21,
        name="read from an inherited descriptor",
        source="""
    import os
    def attack(stage):
        for descriptor in range(1024):
            try: text = os.pread(descriptor, 100, 0).decode()
            except (OSError, UnicodeError): continue
            if text: return text
    """,
        stopped=(NOTHING,),
        control=BareProcess(),
        own_guest=True,
    ),
    Attack(
        row=37,
        name="leave by an inherited descriptor of a folder (CVE-2024-21626)",
        source="""
    import os
    def attack(stage):
        for descriptor in range(3, 1024):
            try: place = os.open("secret", os.O_RDONLY, dir_fd=descriptor)
            except OSError: continue
            return os.read(place, 100).decode()
    """,
        stopped=(NOTHING,),
        control=BareProcess(),
        own_guest=True,
    ),
    Attack(
        row=22,
        name="read the name of this machine",
        source="import socket\ndef attack(stage): return socket.gethostname() == stage['host']",
        stopped=(NOTHING,),
        control=NoSandbox(),
    ),
    Attack(
        row=22,
        name="read what is mounted",
        source="def attack(stage): return '/' in open('/proc/self/mountinfo').read()",
        stopped=ABSENT,
        control=NoSandbox(),
        own_kernel="these are the mounts of the guest's kernel; no path of this machine is among them",
    ),
    Attack(
        row=22,
        name="read the command line of process 1",
        source="def attack(stage): return open('/proc/1/cmdline').read() != ''",
        stopped=ABSENT,
        control=NoSandbox(),
        own_kernel="process 1 of the guest's kernel is the guest's own",
    ),
    Attack(
        row=22,
        name="read every command line",
        source=EVERY_PROCESS.format(file="cmdline", what="neighbour-"),
        stopped=(NOTHING,),
        control=NoSandbox(),
    ),
    Attack(
        row=22,
        name="read the kernel's log",
        source="""
    import ctypes, os
    def attack(stage):
        libc = ctypes.CDLL(None, use_errno=True)
        size = libc.klogctl(3, ctypes.create_string_buffer(1000), 1000)
        if size < 0: raise OSError(ctypes.get_errno(), "")
        return True
    """,
        stopped=REFUSED,
        control=NoSandbox(root=True),
    ),
    Attack(
        row=23,
        name="read a secret of the environment",
        source="import os\ndef attack(stage): return os.environ.get('NOISEMARK_TOKEN')",
        stopped=(NOTHING,),
        control=BareProcess(),
    ),
    Attack(
        row=23,
        name="read the environment of every process",
        source=EVERY_PROCESS.format(file="environ", what="NOISEMARK_TOKEN"),
        stopped=(NOTHING,),
        control=NoSandbox(),
    ),
    Attack(
        row=24,
        name="read shared memory of this machine",
        source="""
    import ctypes, os
    def attack(stage):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        found = libc.shmget(stage["key"], 0, 0)
        if found < 0: raise OSError(ctypes.get_errno(), "")
        return ctypes.string_at(libc.shmat(found, None, 0x1000), 16).decode()  # SHM_RDONLY
    """,
        stopped=("ENOENT", *REFUSED),
        control=NoSandbox(),
    ),
]
