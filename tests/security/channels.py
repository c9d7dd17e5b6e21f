"""Ways in which two guests might talk to each other (rows 20 and 24)."""

from dataclasses import dataclass

LIBC = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    def checked(result):
        if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
    """


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A program with `attack(number)` that sends, and one that then returns whether it has received.

    `number` is one that both know. `listens_first`: the receiver is also called before the sender. `of_the_guest`: all
    sessions of one guest have it in common, as they have its network; a guest serves one grading.
    """

    row: int
    name: str
    sender: str
    receiver: str
    listens_first: bool = False
    of_the_guest: bool = False

    def __str__(self) -> str:
        return f"{self.row} {self.name}"


def file_in(place: str) -> Channel:
    name = f"{place}/noisemark-channel-{{number}}"
    return Channel(
        row=20,
        name=f"a file in {place}",
        sender=f"def attack(number): open(f'{name}', 'w').close()",
        receiver=f"import os\ndef attack(number): return os.unlink(f'{name}') is None",
    )


# A file that every guest of a backend has, and of which there may be one for all
SHARED_FILE = "os.__file__"

# A file of 170 pages or more in Python's own library that nothing maps, so that its pages can be dropped
LONG_FILE = "os.path.join(os.path.dirname(os.__file__), 'pydoc_data', 'topics.py')"

CHANNELS = [
    file_in("/tmp"),
    file_in("/dev/shm"),
    Channel(
        row=24,
        name="a shared memory segment",
        sender=LIBC + "\n    def attack(number): return checked(libc.shmget(number, 4096, 0o1666)) >= 0",
        receiver=LIBC
        + "\n    def attack(number): return libc.shmctl(checked(libc.shmget(number, 0, 0)), 0, None) == 0",
    ),
    Channel(
        row=24,
        name="a System V message queue",
        sender=LIBC + "\n    def attack(number): return checked(libc.msgget(number, 0o1666)) >= 0",
        receiver=LIBC + "\n    def attack(number): return libc.msgctl(checked(libc.msgget(number, 0)), 0, None) == 0",
    ),
    Channel(
        row=24,
        name="a System V semaphore",
        sender=LIBC + "\n    def attack(number): return checked(libc.semget(number, 1, 0o1666)) >= 0",
        receiver=LIBC + "\n    def attack(number): return libc.semctl(checked(libc.semget(number, 0, 0)), 0, 0) == 0",
    ),
    Channel(
        row=24,
        name="a POSIX message queue",
        # The limit on a user's queues can be raised by root alone, so that a control raises it first
        sender=LIBC
        + """
    import resource
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    def attack(number):
        try: resource.setrlimit(resource.RLIMIT_MSGQUEUE, (10**6, 10**6))
        except (OSError, ValueError): pass
        return checked(librt.mq_open(f"/noisemark-{number}".encode(), 0o102, 0o666, None)) >= 0
    """,
        receiver=LIBC
        + """
    librt = ctypes.CDLL("librt.so.1", use_errno=True)
    def attack(number): return checked(librt.mq_unlink(f"/noisemark-{number}".encode())) == 0
    """,
    ),
    Channel(
        row=24,
        name="an abstract socket",
        sender="""
    import socket
    kept = socket.socket(socket.AF_UNIX)
    def attack(number):
        kept.bind(f"\\0noisemark-{number}")
        kept.listen()
    """,
        receiver="""
    import socket
    def attack(number):
        with socket.socket(socket.AF_UNIX) as s: return s.connect(f"\\0noisemark-{number}") is None
    """,
        of_the_guest=True,
    ),
    Channel(
        row=24,
        name="a port of this machine",
        sender="""
    import socket
    kept = socket.socket()
    def attack(number):
        kept.bind(("127.0.0.1", 20000 + number % 10000))
        kept.listen()
    """,
        receiver="""
    import socket
    def attack(number):
        with socket.socket() as s: return s.connect(("127.0.0.1", 20000 + number % 10000)) is None
    """,
        of_the_guest=True,
    ),
    Channel(
        row=24,
        name="a key in the user's keyring",
        sender=LIBC
        + """
    def attack(number):  # add_key to KEY_SPEC_USER_KEYRING
        name = f"noisemark-{number}".encode()
        return checked(libc.syscall(ctypes.c_long(248), b"user", name, b"x", ctypes.c_long(1), ctypes.c_long(-4))) > 0
    """,
        receiver=LIBC
        + """
    def attack(number):  # KEYCTL_SEARCH, KEYCTL_UNLINK
        name = f"noisemark-{number}".encode()
        ring = ctypes.c_long(-4)
        found = checked(libc.syscall(ctypes.c_long(250), ctypes.c_long(10), ring, b"user", name, ctypes.c_long(0)))
        return checked(libc.syscall(ctypes.c_long(250), ctypes.c_long(9), ctypes.c_long(found), ring)) == 0
    """,
    ),
    Channel(
        row=24,
        name="a lock on a file that both have (flock)",
        sender=f"""
    import fcntl, os
    kept = open({SHARED_FILE})
    def attack(number): fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
    """,
        receiver=f"""
    import fcntl, os
    def attack(number):
        with open({SHARED_FILE}) as f:
            try: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError: return True
    """,
    ),
    Channel(
        row=24,
        name="a lock on a file that both have (fcntl)",
        sender=f"""
    import fcntl, os
    kept = open({SHARED_FILE})
    def attack(number): fcntl.lockf(kept, fcntl.LOCK_SH | fcntl.LOCK_NB)
    """,
        receiver=f"""
    import fcntl, os, struct
    def attack(number):
        with open({SHARED_FILE}) as f:
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return fcntl.fcntl(f, fcntl.F_GETLK, asked)[:2] != struct.pack("h", fcntl.F_UNLCK)
    """,
    ),
    Channel(
        row=24,
        name="a lock on a device that both have",
        sender="""
    import fcntl
    kept = open("/dev/zero")
    def attack(number): fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
    """,
        receiver="""
    import fcntl
    def attack(number):
        with open("/dev/zero") as f:
            try: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError: return True
    """,
    ),
    Channel(
        row=24,
        name="watching a file that both have (inotify)",
        sender=f"""
    import os
    def attack(number): open({SHARED_FILE}).close()
    """,
        receiver=LIBC
        + f"""
    kept = -1
    def attack(number):
        global kept
        if kept < 0:
            kept = checked(libc.inotify_init1(0o4000))  # IN_NONBLOCK
            checked(libc.inotify_add_watch(kept, {SHARED_FILE}.encode(), 0x20))  # IN_OPEN
            return False
        try: return len(os.read(kept, 1000)) > 0
        except BlockingIOError: return False
    """,
        listens_first=True,
    ),
    Channel(
        row=24,
        name="which pages of a file are in memory",
        sender=f"""
    import os
    def attack(number):
        file = os.open({LONG_FILE}, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # or neighbouring pages come along
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(file, 1, (number % 100) * 4096)
    """,
        receiver=f"""
    import os
    def attack(number):
        file = os.open({LONG_FILE}, os.O_RDONLY)
        def there(page):
            try: return os.preadv(file, [bytearray(1)], page * 4096, os.RWF_NOWAIT) == 1
            except BlockingIOError: return False
        return [page for page in range(100) if there(page)] == [number % 100]
    """,
    ),
    Channel(
        row=24,
        name="a vsock",
        sender="""
    import socket
    kept = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    def attack(number):
        kept.bind((1, 20000 + number % 10000))  # VMADDR_CID_LOCAL
        kept.listen()
    """,
        receiver="""
    import socket
    def attack(number):
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as s:
            s.settimeout(2)
            return s.connect((1, 20000 + number % 10000)) is None
    """,
    ),
]
