"""Code that tampers with its grade, on every backend (threat list: "Tamper with the grade")."""

from collections.abc import Iterator

import guests
import pytest
import torch

from sandbox.faults import Ending, GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline
from sandbox.session import Callback

# Reaches the guest's own end of the wire from student code, as any guest can
WIRE = """
import gc, json, os, struct, time
connection = next(o for o in gc.get_objects() if type(o).__name__ == "Connection")
def frame(sequence, verb, body, tensors=(), payload=b"", length=None, nonce=None):
    header = json.dumps({"nonce": nonce or connection._nonce, "sequence": sequence, "verb": verb, "body": body,
                         "tensors": list(tensors)}).encode()
    os.write(3, struct.pack("!IQ", len(header), len(payload) if length is None else length) + header + payload)
"""


@pytest.fixture(scope="module", params=guests.BACKENDS)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guests.guest(request.param, memory_bytes=1500 * 2**20) as started:
        yield started


@pytest.mark.threat(5)
@pytest.mark.parametrize(
    ("source", "ending", "message"),
    [
        ("import os\nos._exit(0)", Ending.CRASHED, "ended itself (exit code 0)"),
        ("import os\ndef attack(): os._exit(0)", Ending.CRASHED, "ended itself (exit code 0)"),
        ("import sys\nsys.exit(0)", Ending.CRASHED, "called exit(0)"),
        ("def attack(): raise SystemExit", Ending.CRASHED, "called exit()"),
        ("import ctypes\ndef attack(): ctypes.string_at(0)", Ending.CRASHED, "SIGSEGV"),
        ("import os, signal\ndef attack(): os.abort()", Ending.CRASHED, "ended by SIG"),
        ("def attack(): raise KeyboardInterrupt", Ending.RAISED, ""),
        ("def attack(): raise GeneratorExit", Ending.RAISED, ""),
        ("def attack(): attack()", Ending.RAISED, "maximum recursion depth exceeded"),
    ],
)
def test_ending_the_process_earns_nothing(guest: Guest, source: str, ending: Ending, message: str) -> None:
    fault = guests.fault_of(guest, source)
    assert fault.ending is ending
    assert message in fault.message


def test_a_dead_session_stays_dead(guest: Guest) -> None:
    with guests.loaded(guest, "import os\ndef attack(): os._exit(0)\ndef f(): return 1") as session:
        with pytest.raises(GuestFault) as first:
            session.call("attack")
        with pytest.raises(GuestFault) as second:
            session.call("f")
    assert second.value is first.value


@pytest.mark.threat(2, 3, 4)
@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("torch.ones(2).as_subclass(Yes)", "returned a Yes"),
        ("[1, torch.ones(2).as_subclass(Yes)]", "returned a Yes"),
        ("Equal()", "returned an Equal"),
        ("Number(1.0)", "returned a Number"),
        ("lambda: 1", "returned a function"),
        ("numpy.ones(2)", "returned a numpy.ndarray"),
        ("torch.tensor([1.0, float('nan')])", "returned NaN"),
        ("torch.tensor([1.0, -float('inf')])", "returned an infinite value"),
        ("float('nan')", "returned NaN"),
        ("numpy.float64('inf')", "returned an infinite value"),
        ("torch.ones(2, dtype=torch.complex64)", "returned a tensor of type torch.complex64"),
        ("torch.ones(2).to_sparse()", "returned a tensor that is not dense"),
        ("torch.ones(2, device='meta')", "returned a tensor that is not dense"),
        ("10 ** 30", "returned an integer beyond 64 bits"),
        ("deep(40)", "returned something nested more than 32 deep"),
        ("endless", "returned something nested more than 32 deep"),
        ("{1.5: 1}", "returned a dictionary whose keys"),
    ],
)
def test_what_is_no_plain_value_is_refused_in_words(guest: Guest, expression: str, message: str) -> None:
    source = f"""
    import torch, numpy
    class Yes(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None): return True
    class Equal:
        def __eq__(self, other): return True
        def __lt__(self, other): return True
        def __array__(self): return numpy.ones(2)
        def __float__(self): return 1.0
    class Number(float):
        def __eq__(self, other): return True
    def deep(n): return [deep(n - 1)] if n else 1
    endless = []
    endless.append(endless)
    def attack(): return {expression}
    def honest(): return 1
    """
    with guests.loaded(guest, source) as session:
        with pytest.raises(GuestFault) as caught:
            session.call("attack")
        assert caught.value.ending is Ending.BAD_VALUE
        assert message in caught.value.message
        assert session.call("honest") == 1  # the session goes on


@pytest.mark.threat(1)
def test_patching_what_the_judge_compares_with_has_no_effect(guest: Guest) -> None:
    source = """
    import torch
    torch.allclose = torch.equal = torch.Tensor.__eq__ = lambda *a, **k: True
    torch.testing.assert_close = lambda *a, **k: None
    def attack(): return torch.zeros(3)
    """
    with guests.loaded(guest, source) as session:
        assert not torch.allclose(session.call("attack"), torch.ones(3))
    assert torch.testing.assert_close.__module__ == "torch.testing._comparison"


@pytest.mark.threat(6, 31)
@pytest.mark.parametrize(
    ("attack", "ending", "message"),
    [
        ("os.write(3, struct.pack('!IQ', 10, 2**62))", Ending.OUTPUT_LIMIT, "announced"),
        ("os.write(3, struct.pack('!IQ', 2**32 - 1, 0))", Ending.OUTPUT_LIMIT, "announced"),
        ("os.write(3, struct.pack('!IQ', 4, 0) + b'junk')", Ending.PROTOCOL, "no JSON"),
        ("frame(2, 'result', {'value': 1})", Ending.PROTOCOL, "out of turn"),
        ("frame(3, 'result', {'value': 1}, nonce='x')", Ending.PROTOCOL, "out of turn"),
        ("frame(3, 'passed', {'value': 1})", Ending.PROTOCOL, "malformed answer"),
        ("frame(3, 'result', {'value': {'pickle': 'x'}})", Ending.PROTOCOL, "malformed value"),
        ("frame(3, 'result', {}, [['float32', [2**40]]], length=2**42)", Ending.OUTPUT_LIMIT, "announced"),
        ("frame(3, 'result', {}, [['float32', [2]]], b'1234')", Ending.PROTOCOL, "length they announce"),
        ("frame(3, 'result', {}, [['object', [1]]], b'1234')", Ending.PROTOCOL, "unknown type"),
        ("frame(3, 'result', {}, [['bool', [1]]], b'\\x07')", Ending.PROTOCOL, "neither true nor false"),
        ("frame(3, 'callback', {'callback': 5, 'args': [], 'kwargs': {}})", Ending.PROTOCOL, "not given"),
        ("frame(3, 'fault', {'ending': 'timed_out'})", Ending.PROTOCOL, "malformed fault"),
        ("os.close(3); time.sleep(60)", Ending.PROTOCOL, "closed its connection"),
    ],
)
def test_forged_frames_end_the_session(guest: Guest, attack: str, ending: Ending, message: str) -> None:
    fault = guests.fault_of(guest, f"{WIRE}\ndef attack(): {attack}")
    assert fault.ending is ending
    assert message in fault.message


@pytest.mark.threat(8)
def test_a_frame_sent_ahead_is_a_claim_like_any_other_and_betrays_itself(guest: Guest) -> None:
    source = f"{WIRE}\ndef attack(): frame(3, 'result', {{'value': 42}})\ndef f(): return 1"
    with guests.loaded(guest, source) as session:
        assert session.call("attack") == 42  # it could have returned that as well
        with pytest.raises(GuestFault, match="out of turn"):
            session.call("f")
    assert guests.answers(guest)


@pytest.mark.threat(6)
@pytest.mark.parametrize(
    ("answer", "message"),
    [("7", "did not name values"), ("[['betas']]", "did not name values"), ("{'betas': 1}", "did not name values")],
)
def test_made_up_changes_end_the_session(guest: Guest, answer: str, message: str) -> None:
    source = f"""
    import gc
    kind = next(type(o) for o in gc.get_objects() if type(o).__name__ == "Session")
    kind._do_changed_values = lambda *_: {answer}
    """
    values = {"betas": torch.ones(2)}
    with guests.loaded(guest, source, values=values) as session, pytest.raises(GuestFault, match=message):
        session.changed_values()
    with guests.loaded(guest, source.replace(answer, "['betas', 'T', '']"), values=values) as session:
        assert session.changed_values() == {"betas"}  # of names that it was not given there is nothing to say
    assert guests.answers(guest)


@pytest.mark.threat(31)
def test_a_flood_of_tiny_frames_is_not_even_read(guest: Guest) -> None:
    source = f"{WIRE}\ndef attack():\n for _ in range(10**5): frame(3, 'result', {{'value': 42}})\ndef f(): return 1"
    with guests.loaded(guest, source, Deadline(cpu_seconds=30, wall_seconds=20)) as session:
        assert session.call("attack") == 42
        with pytest.raises(GuestFault, match="out of turn"):
            session.call("f")


@pytest.mark.threat(29)
def test_a_child_that_holds_the_connection_open_does_not_hold_the_judge(guest: Guest) -> None:
    source = "import os, time\ndef attack():\n if os.fork() == 0: time.sleep(60)\n os._exit(0)"
    fault = guests.fault_of(guest, source, Deadline(cpu_seconds=30, wall_seconds=1.5))
    assert fault.ending in (Ending.CRASHED, Ending.TIMED_OUT)


@pytest.mark.threat(12)
def test_one_session_looks_like_another(guest: Guest) -> None:
    source = """
    import os, resource, sys, threading
    def look():
        limits = [resource.getrlimit(number) for number in range(16) if number != resource.RLIMIT_AS]
        return (
            dict(os.environ), sys.argv, sys.path, sorted(sys.modules), os.getcwd(), os.listdir("."), os.getuid(),
            limits, sys.flags[:], threading.active_count(), sys.gettrace() is None,
        )
    """
    looks = []
    for _ in range(2):
        with guests.loaded(guest, source) as session:
            looks.append(session.call("look"))
    assert looks[0] == looks[1]


@pytest.mark.threat(31)
def test_half_a_frame_and_then_silence_times_out(guest: Guest) -> None:
    source = f"{WIRE}\ndef attack():\n os.write(3, struct.pack('!IQ', 100, 0))\n time.sleep(60)"
    fault = guests.fault_of(guest, source, Deadline(cpu_seconds=30, wall_seconds=1.5))
    assert fault.ending is Ending.TIMED_OUT


@pytest.mark.threat(4)
def test_a_model_called_with_nan_ends_the_session(guest: Guest) -> None:
    called = []
    source = "import torch\ndef attack(model): return model(torch.full((1,), float('nan')))"
    with guests.loaded(guest, source) as session, pytest.raises(GuestFault, match="called the model with NaN"):
        session.call("attack", Callback(called.append))
    assert not called


@pytest.mark.threat(48)
def test_hostile_exceptions_are_capped_and_disarmed(guest: Guest) -> None:
    source = """
    class Silent(Exception):
        def __str__(self): raise Exception("no")
    class Loud(Exception):
        def __str__(self): return "\\x1b[31m\\u202e" + "x" * 10**6
    Loud.__name__ = "L" * 10**6
    class Sub(str): pass
    class Odd(Exception):
        def __str__(self): return Sub("odd")
    def silent(): raise Silent
    def loud(): raise Loud
    def odd(): raise Odd
    """
    with guests.loaded(guest, source) as session:
        with pytest.raises(GuestFault, match="cannot be read"):
            session.call("silent")
        with pytest.raises(GuestFault) as loud:
            session.call("loud")
        with pytest.raises(GuestFault) as odd:
            session.call("odd")
    assert len(loud.value.message) <= 2000
    assert loud.value.message.startswith("�[31m�xxx")
    assert len(str(loud.value.exception)) <= 200
    assert odd.value.ending is Ending.RAISED


@pytest.mark.threat(10, 40)
def test_nothing_lingers_from_one_session_to_the_next(guest: Guest) -> None:
    source = """
    import torch, builtins, sys, os
    torch.zeros = None
    builtins.mark = 1
    sys.modules["math"] = None
    for name in ("torch.py", "sitecustomize.py", "random.py"):
        open(name, "w").write("raise SystemExit")
    os.environ["PYTHONSTARTUP"] = "random.py"
    def attack(): pass
    """
    with guests.loaded(guest, source) as session:
        session.call("attack")
    source = """
    import torch, math, builtins, random, os
    def f(): return torch.zeros(1), hasattr(builtins, "mark"), dict(os.environ)
    """
    with guests.loaded(guest, source) as session:
        zeros, marked, environment = session.call("f")
    assert torch.equal(zeros, torch.zeros(1))
    assert not marked
    assert environment == {}


@pytest.mark.threat(10, 16)
@pytest.mark.parametrize("module", ["sklearn", "pytest", "pip", "sandbox", "reference", "grading", "hypothesis"])
def test_only_what_a_guest_needs_can_be_imported(guest: Guest, module: str) -> None:
    fault = guests.fault_of(guest, f"import {module}")
    assert (fault.exception, fault.message) == ("ModuleNotFoundError", f"No module named '{module}'")


@pytest.mark.threat(12, 21, 23)
def test_the_environment_is_empty_and_names_nobody(guest: Guest) -> None:
    source = """
    import os, sys
    def look():
        descriptors = []
        for number in range(256):
            try: os.fstat(number)
            except OSError: continue
            descriptors.append(number)
        return dict(os.environ), descriptors, sys.path, os.read(0, 10).decode()
    """
    with guests.loaded(guest, source) as session:
        environment, descriptors, path, standard_input = session.call("look")
    assert environment == {}
    assert descriptors == [0, 1, 2, 3]
    assert not any("site-packages" in place for place in path)
    assert standard_input == ""


@pytest.mark.threat(9)
def test_a_session_that_kills_all_it_can_reach_harms_only_itself(guest: Guest) -> None:
    source = """
    import os, signal
    def attack():
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(0)
    """
    fault = guests.fault_of(guest, source)
    assert fault.ending in (Ending.CRASHED, Ending.RAISED)
