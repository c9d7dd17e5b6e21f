"""What a guest may use up. One record for the whole sandbox, one for each session."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that hold for every session of a guest."""

    memory_bytes: int = 3072 * MIB  # a warm torch takes 300 MiB, training at batch 128 about 1 GiB
    processes: int = 64  # processes and threads together: torch's own threads are at most one per core
    output_bytes: int = 1 * MIB  # a training loop that prints a line for each of 10,000 batches
    reply_bytes: int = 256 * MIB  # one frame from the guest: the weights of a network of 64 M parameters
    tmp_bytes: int = 64 * MIB  # /tmp and /dev/shm, each; a grading needs neither
    tmp_files: int = 4096  # inodes of each; they take kernel memory of their own
    file_bytes: int = 64 * MIB  # one file; no more than /tmp holds
    open_files: int = 256  # torch keeps about 20 open
    gpu: str | None = None  # UUID of the one that it may use, of which the judge holds a lease

    def of_sessions(self) -> dict[str, int]:
        """Those that each session sets for itself, as `sandbox.guest.confine` is told them."""
        names = ("processes", "file_bytes", "open_files", "tmp_bytes", "tmp_files")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """How long a session may take, over all its calls."""

    # Processor time, threads added up, rounded up to whole seconds by the kernel. The fair limit: the same on a
    # machine that is busy with something else.
    cpu_seconds: float
    # Time on the clock while the judge waits; what ends a guest that sleeps. Give several times `cpu_seconds`.
    wall_seconds: float
