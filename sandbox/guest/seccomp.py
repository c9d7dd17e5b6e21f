"""The system call filter: a deny-list as classic BPF, for x86_64 and aarch64 (seccomp(2), linux/audit.h).

A session has neither capabilities nor namespaces to reach for; the filter closes what the kernel leaves open to
everybody, which is where most of its holes were found.
"""

import ctypes
import errno
import os
import struct

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
RET_ALLOW = 0x7FFF0000
RET_ERRNO = 0x00050000
RET_KILL_PROCESS = 0x80000000

# Classic BPF: load a word, bitwise and, jump if equal, jump if any bit is set, jump if greater or equal, return
LOAD, AND, EQUAL, BITS, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x06
# Offsets in struct seccomp_data; of the arguments, 64 bits each, the lower half on these little-endian machines
NUMBER, ARCHITECTURE, ARGUMENT_0, ARGUMENT_1, ARGUMENT_2, ARGUMENT_5 = 0, 4, 16, 24, 32, 56

X32_BIT = 0x40000000  # system calls of the x32 interface, on x86_64
# Any of CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
CLONE_NEW = 0x80 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put characters into a terminal's input
# Of a file's mode (inode(7)): its type, and those of devices, which gVisor lets anybody make
FILE_TYPE, S_IFCHR, S_IFBLK = 0o170000, 0o020000, 0o060000
# fcntl's F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_GETLEASE, F_NOTIFY
LOCKS = (5, 6, 7, 36, 37, 38, 1024, 1025, 1026)
MADV_COLD, MADV_PAGEOUT = 20, 21  # drop pages of files that others map as well
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10  # with no network but a loopback of its own, harmless

# name -> number on x86_64, on aarch64; None where an architecture has no such call
DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "personality": (135, 92),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "fanotify_init": (300, 262),
    # Whoever may read a file may lock and watch it: a channel between guests that share their libraries
    "flock": (73, 32),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    # Which pages of a shared file are in memory is a channel too: whoever can drop or fetch pages writes to it, and
    # whoever can ask reads it
    "fadvise64": (221, 223),
    "readahead": (187, 213),
    "mincore": (27, 232),
    "cachestat": (451, 451),
    "process_madvise": (440, 440),
    # What hiding /proc hides: the host's mounts and namespaces
    "statmount": (457, 457),
    "listmount": (458, 458),
    "listns": (470, 470),
    "mbind": (237, 235),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "set_mempolicy": (238, 237),
    "memfd_secret": (447, 447),
    "landlock_create_ruleset": (444, 444),
    "seccomp": (317, 277),
}
CLONE = (56, 220)
CLONE3 = (435, 435)
UNSHARE = (272, 97)
SOCKET = (41, 198)
IOCTL = (16, 29)
FCNTL = (72, 25)
PREADV2 = (327, 286)
PWRITEV2 = (328, 287)
MADVISE = (28, 233)
MKNOD = (133, None)
MKNODAT = (259, 33)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def _refuse(number: int) -> Instruction:
    return (RETURN, 0, 0, RET_ERRNO | number)


def program(machine: str) -> list[Instruction]:
    """The filter for `machine`, a value of `os.uname().machine`. Raises `OSError` for an unknown one."""
    if machine not in ARCHITECTURES:
        raise OSError(f"no system call filter for {machine}")
    column, audit = ARCHITECTURES[machine]
    allow: Instruction = (RETURN, 0, 0, RET_ALLOW)
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, audit),
        (RETURN, 0, 0, RET_KILL_PROCESS),  # such as 32-bit calls, whose numbers mean something else
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":
        code += [(AT_LEAST, 0, 1, X32_BIT), _refuse(errno.ENOSYS)]
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            code += [(EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    # Its flags are behind a pointer, where a filter cannot look; told that there is none, libc falls back to clone
    code += [(EQUAL, 0, 1, CLONE3[column]), _refuse(errno.ENOSYS)]
    for number in (CLONE[column], UNSHARE[column]):
        code += [
            (EQUAL, 0, 4, number),
            (LOAD, 0, 0, ARGUMENT_0),
            (BITS, 0, 1, CLONE_NEW),
            _refuse(errno.EPERM),
            allow,
        ]
    code += [
        (EQUAL, 0, 6, SOCKET[column]),
        (LOAD, 0, 0, ARGUMENT_0),
        (EQUAL, 2, 0, AF_UNIX),
        (EQUAL, 1, 0, AF_INET),
        (EQUAL, 0, 1, AF_INET6),
        allow,
        _refuse(errno.EAFNOSUPPORT),
    ]
    for number, mode in ((MKNOD[column], ARGUMENT_1), (MKNODAT[column], ARGUMENT_2)):
        if number is not None:
            code += [
                (EQUAL, 0, 6, number),
                (LOAD, 0, 0, mode),
                (AND, 0, 0, FILE_TYPE),
                (EQUAL, 1, 0, S_IFCHR),
                (EQUAL, 0, 1, S_IFBLK),
                _refuse(errno.EPERM),
                allow,
            ]
    code += [
        (EQUAL, 0, 5, IOCTL[column]),
        (LOAD, 0, 0, ARGUMENT_1),
        (EQUAL, 1, 0, TIOCSTI),
        (EQUAL, 0, 1, TIOCLINUX),
        _refuse(errno.EPERM),
        allow,
    ]
    code += [
        (EQUAL, 0, 3 + len(LOCKS), FCNTL[column]),
        (LOAD, 0, 0, ARGUMENT_1),
        *[(EQUAL, len(LOCKS) - index, 0, command) for index, command in enumerate(LOCKS)],
        allow,
        _refuse(errno.EPERM),
    ]
    for number in (PREADV2[column], PWRITEV2[column]):  # RWF_NOWAIT among the flags tells what is in memory
        code += [(EQUAL, 0, 4, number), (LOAD, 0, 0, ARGUMENT_5), (EQUAL, 1, 0, 0), _refuse(errno.EPERM), allow]
    code += [
        (EQUAL, 0, 5, MADVISE[column]),
        (LOAD, 0, 0, ARGUMENT_2),
        (EQUAL, 1, 0, MADV_COLD),
        (EQUAL, 0, 1, MADV_PAGEOUT),
        _refuse(errno.EPERM),
        allow,
    ]
    return [*code, allow]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> None:
    """Filter this process and all that descend from it. Needs no_new_privs. Raises `OSError`."""
    code = program(os.uname().machine)
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    description = _Program(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(description), 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"installing the system call filter: {os.strerror(number)}")
