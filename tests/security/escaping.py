"""Attacks that leave the sandbox or reach the world (rows 34 to 40)."""

from security.attack import ABSENT, NOT_WRITABLE, NOTHING, REFUSED, Attack, Control, NoSandbox

LIBC = """
    import ctypes, os, socket, tempfile
    libc = ctypes.CDLL(None, use_errno=True)
    def checked(result):
        if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
    """

# A mount namespace of its own where it can be had, so that a control mounts nothing that others see
PRIVATE = """
    def withdraw():
        if libc.unshare(0x20000) == 0: checked(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC, MS_PRIVATE
    """

NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "process": 0x20000000,
    "network": 0x40000000,
    "IPC": 0x08000000,
    "host name": 0x04000000,
    "control group": 0x02000000,
}

AS_ROOT = NoSandbox(root=True)
REBUILDS = "it would change this machine"  # loads kernels and modules, reboots, swaps, sets the clock


def with_libc(row: int, name: str, body: str, control: Control, stopped: tuple[str, ...] = REFUSED) -> Attack:
    """An attack that calls the kernel."""
    return Attack(row=row, name=name, source=LIBC + body, stopped=stopped, control=control)


def system_call(row: int, name: str, call: str, control: Control, stopped: tuple[str, ...] = REFUSED) -> Attack:
    """`call`: the number on x86_64 and the arguments; succeeds where the kernel grants it."""
    body = f"""
    def attack(stage):
        checked(libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in ({call})]))
        return True
    """
    return with_libc(row, name, body, control, stopped)


NAMESPACE_ATTACKS = [
    *(
        with_libc(
            34,
            f"unshare: a {kind} namespace",
            f"""
    def attack(stage): return checked(libc.unshare({flag:#x})) == 0
    """,
            NoSandbox(root=kind != "user"),
        )
        for kind, flag in NAMESPACES.items()
    ),
    with_libc(
        34,
        "clone into a user namespace",
        """
    def attack(stage):
        pid = checked(libc.syscall(ctypes.c_long(56), ctypes.c_long(0x10000000 | 17), 0, 0, 0, 0))
        if pid == 0: os._exit(0)
        return os.waitpid(pid, 0)[0] == pid
    """,
        NoSandbox(),
    ),
    with_libc(
        34,
        "clone3 into a user namespace",
        """
    def attack(stage):
        arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)  # flags, three addresses, SIGCHLD
        pid = checked(libc.syscall(ctypes.c_long(435), arguments, ctypes.c_long(88)))
        if pid == 0: os._exit(0)
        return os.waitpid(pid, 0)[0] == pid
    """,
        NoSandbox(),
    ),
    with_libc(
        34,
        "setns",
        """
    def attack(stage): return checked(libc.setns(os.pidfd_open(os.getpid()), 0x04000000)) == 0  # CLONE_NEWUTS
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "mount",
        PRIVATE
        + """
    def attack(stage):
        withdraw()
        new = tempfile.mkdtemp().encode()
        return checked(libc.mount(b"none", new, b"tmpfs", 0, None)) == 0
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "bind the root folder elsewhere",
        PRIVATE
        + """
    def attack(stage):
        withdraw()
        new = tempfile.mkdtemp().encode()
        return checked(libc.mount(b"/", new, None, 0x1000, None)) == 0  # MS_BIND
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "remount the root folder writable",
        PRIVATE
        + """
    def attack(stage):
        withdraw()
        return checked(libc.mount(None, b"/", None, 0x1020, None)) == 0  # MS_BIND, MS_REMOUNT
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "umount",
        PRIVATE
        + """
    def attack(stage):
        withdraw()
        new = tempfile.mkdtemp().encode()
        libc.mount(b"none", new, b"tmpfs", 0, None)
        return checked(libc.umount2(new, 0)) == 0
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "pivot_root",
        PRIVATE
        + """
    def attack(stage):
        withdraw()
        new = tempfile.mkdtemp().encode()
        libc.mount(b"none", new, b"tmpfs", 0, None)
        os.mkdir(new + b"/old")
        return checked(libc.syscall(155, new, new + b"/old")) == 0
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "chroot",
        """
    def attack(stage): return os.chroot(".") is None
    """,
        AS_ROOT,
    ),
    with_libc(
        34,
        "open a file by its handle",
        """
    def attack(stage):
        handle = ctypes.create_string_buffer((128).to_bytes(4, "little"), 200)
        mount = ctypes.c_int()
        libc.name_to_handle_at(-100, b"/", handle, ctypes.byref(mount), 0)  # AT_FDCWD
        return checked(libc.open_by_handle_at(os.open("/", 0), handle, 0)) >= 0
    """,
        AS_ROOT,
    ),
    system_call(34, "fsopen, the newer way to mount", "430, b'tmpfs', 0", AS_ROOT),
    system_call(34, "open_tree, the newer way to bind", "428, -100, b'.', 1", AS_ROOT),
    with_libc(
        34,
        "become root",
        """
    def attack(stage): return os.setresuid(0, 0, 0) is None
    """,
        AS_ROOT,
        ("EPERM", "EINVAL"),
    ),
    with_libc(
        34,
        "gain privileges from set-user-ID programs",
        """
    def attack(stage): return libc.prctl(39, 0, 0, 0, 0) == 0  # PR_GET_NO_NEW_PRIVS
    """,
        NoSandbox(),
        (NOTHING,),
    ),
]

KERNEL_ATTACKS = [
    system_call(35, "io_uring", "425, 1, bytes(120)", NoSandbox()),
    system_call(
        35, "bpf", "321, 0, b''.join(n.to_bytes(4, 'little') for n in (2, 4, 4, 1)) + bytes(112), 128", AS_ROOT
    ),
    system_call(35, "userfaultfd", "323, 0", AS_ROOT),
    system_call(35, "keyctl", "250, 0, -3, 1, 0, 0", NoSandbox()),
    system_call(35, "add_key", "248, b'user', b'noisemark', b'x', 1, -1", NoSandbox()),
    system_call(
        35,
        "request_key",
        "249, b'user', b'noisemark', 0, 0",
        "the kernel would start a program to find the key",
    ),
    system_call(
        35,
        "perf_event_open",
        "298, (1).to_bytes(4, 'little') + (112).to_bytes(4, 'little') + bytes(104), 0, -1, -1, 0",
        AS_ROOT,
    ),
    system_call(35, "kexec_load", "246, 0, 0, 0, 0", REBUILDS),
    system_call(35, "kexec_file_load", "320, -1, -1, 0, 0, 0", REBUILDS),
    system_call(35, "init_module", "175, bytes(8), 8, b''", REBUILDS),
    system_call(35, "finit_module", "313, -1, b'', 0", REBUILDS),
    system_call(35, "delete_module", "176, b'noisemark', 0", REBUILDS),
    system_call(35, "reboot", "169, 0, 0, 0, 0", REBUILDS),
    system_call(35, "swapon", "167, b'/nowhere', 0", REBUILDS),
    system_call(35, "settimeofday", "164, 0, 0", REBUILDS),
    system_call(35, "acct", "163, b'/nowhere'", REBUILDS),
    system_call(35, "personality", "135, 0x0040000", NoSandbox()),
    system_call(35, "adjtimex", "159, bytes(208)", NoSandbox()),
    system_call(35, "fanotify_init", "300, 0, 0", AS_ROOT),
    system_call(35, "kcmp", "312, os.getpid(), os.getpid(), 2, 0, 0", NoSandbox()),
    system_call(35, "modify_ldt", "154, 0, bytes(16), 16", NoSandbox()),
    system_call(35, "iopl", "172, 3", AS_ROOT),
    system_call(35, "set_mempolicy", "238, 0, 0, 0", NoSandbox()),
    system_call(35, "memfd_secret", "447, 0", NoSandbox()),
    system_call(35, "a system call filter of its own", "317, 2, 0, (0x7fff0000).to_bytes(4, 'little')", NoSandbox()),
    with_libc(
        35,
        "sethostname",
        """
    def attack(stage):
        name = socket.gethostname().encode()
        return checked(libc.sethostname(name, len(name))) == 0
    """,
        AS_ROOT,
    ),
    system_call(35, "an x32 call", "0x40000000 | 39,", NoSandbox(), (*REFUSED, "crashed")),
    Attack(
        row=35,
        name="a 32-bit call",
        source="""
    import ctypes, mmap
    def attack(stage):
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid); int 0x80; ret
        return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() > 0
    """,
        stopped=("crashed", NOTHING),
        control=NoSandbox(),
    ),
]


def writing(row: int, name: str, expression: str, control: Control = AS_ROOT, own_kernel: str | None = None) -> Attack:
    """Opens for writing, and writes nothing: that it could is enough."""
    source = f"import os, sys, torch\ndef attack(stage): return os.open({expression}) >= 0"
    return Attack(row=row, name=name, source=source, stopped=NOT_WRITABLE, control=control, own_kernel=own_kernel)


def device(name: str, mode: str, numbers: str) -> Attack:
    source = f"""
    import os, stat
    def attack(stage):
        os.mknod("device", {mode} | 0o600, os.makedev({numbers}))
        os.unlink("device")
        return True
    """
    return Attack(row=36, name=name, source=source, stopped=("EPERM", "EACCES"), control=AS_ROOT)


FILE_ATTACKS = [
    writing(36, "write to the kernel's trigger", "'/proc/sysrq-trigger', os.O_WRONLY", "not every kernel has it"),
    writing(36, "write to the kernel's settings", "'/proc/sys/kernel/core_pattern', os.O_WRONLY"),
    writing(36, "write to its own memory through /proc", "'/proc/self/mem', os.O_RDWR", NoSandbox()),
    writing(
        37,
        "write to the running interpreter (CVE-2019-5736)",
        "'/proc/self/exe', os.O_WRONLY",
        "no system lets a running program be written to; runc's way round it needs `exec` into a guest",
    ),
    writing(37, "write to the attributes of its process (CVE-2025-52881)", "'/proc/self/attr/exec', os.O_WRONLY"),
    writing(36, "read the kernel's ring of messages", "'/dev/kmsg', os.O_RDONLY"),
    writing(36, "open the memory of this machine", "'/dev/mem', os.O_RDONLY", "not every kernel has it"),
    writing(
        36,
        "make a terminal",
        "'/dev/ptmx', os.O_RDWR",
        NoSandbox(),
        own_kernel="a terminal of the guest's kernel, at which nobody sits",
    ),
    writing(36, "write to the standard library", "os.__file__, os.O_RDWR"),
    writing(36, "write to torch", "torch.__file__, os.O_RDWR"),
    writing(36, "write to the code that serves sessions", "sys.modules['guest.session'].__file__, os.O_RDWR"),
    Attack(
        row=36,
        name="see the devices in /sys",
        source="import os\ndef attack(stage): return os.listdir('/sys/class') != []",
        stopped=ABSENT,
        control=NoSandbox(),
    ),
    Attack(
        row=36,
        name="write a file of this machine",
        source="def attack(stage): open(stage['folder'] + '/written', 'w').close()",
        stopped=NOT_WRITABLE,
        control=NoSandbox(),
    ),
    Attack(
        row=36,
        name="write to the root folder",
        source="""
    import os
    def attack(stage):
        open("/noisemark-probe", "x").close()
        os.unlink("/noisemark-probe")
        return True
    """,
        stopped=NOT_WRITABLE,
        control=AS_ROOT,
    ),
    Attack(
        row=36,
        name="change the mode of a library",
        source="import os\ndef attack(stage): return os.chmod(os.__file__, os.stat(os.__file__).st_mode) is None",
        stopped=NOT_WRITABLE,
        control=AS_ROOT,
    ),
    device("make a device for a disk", "stat.S_IFBLK", "8, 0"),
    device("make a device for memory", "stat.S_IFCHR", "1, 1"),
    Attack(
        row=40,
        name="plant compiled code beside a library",
        source="""
    import os
    def attack(stage):
        place = os.path.join(os.path.dirname(os.__file__), "__pycache__", "noisemark-probe.pyc")
        open(place, "x").close()
        os.unlink(place)
        return True
    """,
        stopped=NOT_WRITABLE,
        control=AS_ROOT,
    ),
    Attack(
        row=40,
        name="plant a file in a cache at home",
        source="""
    import os
    def attack(stage):
        place = os.path.expanduser("~/.noisemark-probe")
        if not os.path.isabs(place): return False  # no home
        open(place, "x").close()
        os.unlink(place)
        return True
    """,
        stopped=(NOTHING, *NOT_WRITABLE),
        control=NoSandbox(),
    ),
    Attack(
        row=38,
        name="type into a terminal",
        source="""
    import fcntl, os, termios
    def attack(stage):
        near, far = os.openpty()
        if os.fork() == 0:
            os.setsid()
            fcntl.ioctl(far, termios.TIOCSCTTY, 0)
            try: fcntl.ioctl(far, 0x5412, b"x")  # TIOCSTI
            except OSError as error: os._exit(error.errno)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.wait()[1])
        if status: raise OSError(status, os.strerror(status))
        return True
    """,
        stopped=(*ABSENT, "EPERM"),
        control=AS_ROOT,
    ),
    Attack(
        row=38,
        name="type into its input and output",
        source="""
    import ctypes, os
    def attack(stage):
        libc = ctypes.CDLL(None, use_errno=True)
        for high in (0, 1 << 32):  # the kernel looks at the lower half only
            for descriptor in range(4):
                if libc.syscall(ctypes.c_long(16), ctypes.c_long(descriptor), ctypes.c_long(high | 0x5412), b"x") == 0:
                    return True
                if ctypes.get_errno() not in (1, 25): raise OSError(ctypes.get_errno(), "")
    """,
        stopped=(NOTHING,),
        control="no session of any backend has a terminal",
    ),
]


def connecting(row: int, name: str, family: str, address: str, control: Control, stopped: tuple[str, ...]) -> Attack:
    source = f"""
    import socket
    def attack(stage):
        with socket.socket(socket.{family}) as s:
            s.settimeout(3)
            s.connect({address})
            s.send(b"x")
            return True
    """
    return Attack(row=row, name=name, source=source, stopped=stopped, control=control)


def family(name: str, number: int, kind: str, control: Control, protocol: int = 0) -> Attack:
    source = f"""
    import socket
    def attack(stage):
        socket.socket({number}, socket.{kind}, {protocol}).close()
        return True
    """
    return Attack(
        row=24 if name == "AF_VSOCK" else 39,
        name=f"make a socket of the family {name}",
        source=source,
        stopped=("EAFNOSUPPORT", "EPERM"),
        control=control,
    )


NO_WAY = ("ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL")
OUTSIDE = "tests reach for nothing beyond this machine"

NETWORK_ATTACKS = [
    connecting(39, "TCP to this machine", "AF_INET", "('127.0.0.1', stage['tcp'])", NoSandbox(), NO_WAY),
    connecting(39, "TCP to the metadata address", "AF_INET", "('169.254.169.254', 80)", OUTSIDE, NO_WAY),
    connecting(39, "TCP to an address on the internet", "AF_INET", "('192.0.2.1', 443)", OUTSIDE, NO_WAY),
    connecting(39, "TCP to an address of IPv6", "AF_INET6", "('2001:db8::1', 443)", OUTSIDE, NO_WAY),
    connecting(39, "a Unix socket of this machine", "AF_UNIX", "stage['socket']", NoSandbox(), ABSENT),
    connecting(
        24,
        "an abstract socket of this machine",
        "AF_UNIX",
        "'\\0' + stage['abstract']",
        NoSandbox(),
        (*NO_WAY, "EINVAL"),
    ),
    connecting(39, "the Docker socket", "AF_UNIX", "'/var/run/docker.sock'", "it would need Docker", ABSENT),
    connecting(39, "the socket of the system's bus", "AF_UNIX", "'/run/dbus/system_bus_socket'", OUTSIDE, ABSENT),
    Attack(
        row=39,
        name="UDP to this machine",
        source="""
    import socket, time
    def attack(stage):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", ("127.0.0.1", stage["udp"]))
            time.sleep(0.1)
    """,
        stopped=(NOTHING, *NO_WAY),
        control=NoSandbox(),
    ),
    Attack(
        row=39,
        name="ask for the address of a name",
        source="""
    import socket
    def attack(stage): return len(socket.getaddrinfo("example.com", 80)) > 0
    """,
        stopped=("gaierror", "ENOENT"),
        control=OUTSIDE,
    ),
    Attack(
        row=39,
        name="ask a name server directly",
        source="""
    import socket
    def attack(stage):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            s.sendto(b"\\0\\1\\1\\0\\0\\1" + bytes(6) + b"\\7example\\3com\\0\\0\\1\\0\\1", ("192.0.2.53", 53))
            return len(s.recv(500)) > 0
    """,
        stopped=NO_WAY,
        control=OUTSIDE,
    ),
    Attack(
        row=39,
        name="see the interfaces of this machine",
        source="""
    import socket
    def attack(stage): return [name for _, name in socket.if_nameindex() if name.startswith(("e", "w", "docker"))] != []
    """,
        stopped=(NOTHING, *REFUSED, "EAFNOSUPPORT"),
        control=NoSandbox(),
    ),
    family("AF_INET", 2, "SOCK_RAW", AS_ROOT, protocol=1),
    family("AF_NETLINK", 16, "SOCK_RAW", NoSandbox()),
    family("AF_PACKET", 17, "SOCK_RAW", AS_ROOT),
    family("AF_BLUETOOTH", 31, "SOCK_RAW", NoSandbox()),
    family("AF_ALG", 38, "SOCK_SEQPACKET", NoSandbox()),
    family("AF_VSOCK", 40, "SOCK_STREAM", NoSandbox()),
]

ESCAPING = [*NAMESPACE_ATTACKS, *KERNEL_ATTACKS, *FILE_ATTACKS, *NETWORK_ATTACKS]
