"""Tool code in its workers: what comes back, and that hostile code has no effect. Where it can be, the same code is run here first:
there it does what it is said to do."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from assay.environments.tools.execution import Request, ToolExecutor
from assay.isolation.processes import command, descendants

ROOT = Path(__file__).parents[2]
FORK_EXEC = (
    [b"/bin/sleep", b"4321"], [b"/bin/sleep"], True, (), None, None, *[-1] * 7, 9, False, False, -1, None, None, None, -1, None, True,
)  # fmt: skip
"""Of a program that runs, past the module that says so."""
PEAK = """
import resource
from assay.environments.tools.execution import Request, ToolExecutor
HOGS = ("return 1", "held = []\\n    while True:\\n        held.append(bytearray(1 << 22))", "return 'x' * (2 << 30)")
for some in (HOGS[:1], HOGS[1:]):
    with ToolExecutor(1, 5.0, 128) as executor:
        said = executor.execute([Request({"hog": "def hog():\\n    " + body}, "hog", {}) for body in some])
    print(*(one.status for one in said), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.fixture(scope="module")
def executor():
    with ToolExecutor(2, 1.5, 256, characters=500) as made:
        yield made


def function(name, body, parameters=""):
    return f"def {name}({parameters}):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


def said(executor, body, parameters="", **arguments):
    return executor.execute([Request({"tool": function("tool", body, parameters)}, "tool", arguments)])[0]


def run_here(body, parameters="", **arguments):
    scope = {}
    exec(function("tool", body, parameters), scope)
    return scope["tool"](**arguments)


def test_results_come_back_as_text(executor):
    assert said(executor, "import math\nreturn math.sqrt(n)", "n=4", n=9).text == "3.0"
    assert said(executor, "return {'name': 'Köln', 'list': [1, None]}").text == '{"name": "Köln", "list": [1, null]}'
    assert said(executor, "return ['a']").text == '["a"]'
    assert [said(executor, f"return {value}").text for value in ("None", "True", "'x, y'", "(1, 2)")] == ["None", "True", "x, y", "(1, 2)"]


def test_what_stands_beside_the_function_is_not_seen_and_does_not_crash(executor):
    outside = "import math\ndef tool(n=4):\n    return math.sqrt(n)\n"
    recursive = "def tool(n=4):\n    return 1 if n < 1 else tool(n - 1)\n"
    found = executor.execute([Request({"tool": source}, "tool", {}) for source in (outside, recursive)])
    assert [one.status for one in found] == ["exception", "exception"]
    assert "name 'math' is not defined" in found[0].text and "name 'tool' is not defined" in found[1].text


def test_pythons_own_modules_are_there(executor):
    """Also those that can do without what they may not have (ssl, readline, _multiprocessing)."""
    names = "asyncio urllib.request uuid xml.etree.ElementTree csv logging unicodedata secrets dataclasses concurrent.futures email"
    body = "\n".join(f"import {name}" for name in [*names.split(), "cmd", "zoneinfo"])
    body += "\nzoneinfo.ZoneInfo('UTC')" if Path("/usr/share/zoneinfo/UTC").exists() else ""  # a link to another file, often
    assert said(executor, body + "\nreturn 1").status == "ok"


def test_unknown_tools_wrong_arguments_and_errors_are_told_apart(executor):
    source = function("tool", "return n / 0", "n=1, m=2")
    requests = [
        Request({"tool": source}, "nope", {}),
        Request({"tool": source}, "tool", {"brelite": 1}),
        Request({"tool": source}, "tool", {"n": "brelite"}),
        Request({"tool": source}, "tool", {}),
        Request({"tool": "def other():\n    return 1\n"}, "tool", {}),
        Request({"tool": "def tool(:\n"}, "tool", {}),
        Request({"tool": function("tool", "import nowhere_to_be_found")}, "tool", {}),
        Request({"tool": function("tool", "raise SystemExit(3)")}, "tool", {}),
        Request({"tool": function("tool", "return {'a': object()}")}, "tool", {}),
    ]
    found = executor.execute(requests)
    assert [one.status for one in found] == [
        "unknown_tool", "bad_args", "exception", "exception", "unknown_tool", "exception", "exception", "exception", "exception",
    ]  # fmt: skip
    assert found[0].text == "Error: there is no tool named nope."
    assert found[1].text == "Error: tool was called with wrong arguments; it takes n, m." and "brelite" not in found[2].text
    for one, word in zip(
        found[3:], ("ZeroDivisionError", "no function", "SyntaxError", "No module named", "SystemExit", "TypeError"), strict=True
    ):
        assert word in one.text


def test_a_type_error_inside_a_tool_is_not_taken_for_wrong_arguments(executor):
    found = said(executor, "def inner(a):\n    return a\nreturn inner()")
    assert (found.status, "missing 1 required positional argument" in found.text) == ("exception", True)


def test_code_that_does_not_end_is_ended_and_costs_no_other_call_its_result(executor):
    sleeping, looping = function("tool", "import time\ntime.sleep(30)"), function("tool", "while True:\n    pass")
    fine = function("tool", "return n", "n=0")
    requests = [Request({"tool": fine}, "tool", {"n": n}) for n in range(40)]
    requests[7], requests[23] = Request({"tool": sleeping}, "tool", {}), Request({"tool": looping}, "tool", {})
    found = executor.execute(requests)
    assert Counter(one.status for one in found) == {"ok": 38, "timeout": 2}
    assert [one.text for one in found] == ["Error: tool gave no answer within 1.5 seconds." if n in (7, 23) else str(n) for n in range(40)]
    assert ToolExecutor().seconds == 10.0  # the paper's code


def test_a_tool_that_never_ends_is_not_waited_for_again_and_again_whichever_worker_is_first():
    def answers(late, count):
        """Which calls n of 0 to count - 1 are answered, where those of `late` sleep."""
        source = function("tool", f"import time\nif n in {late}: time.sleep(60)\nreturn n", "n=0")
        return [Request({"tool": source}, "tool", {"n": n}) for n in range(count)]

    always, later, twice, fine = answers([0, 1, 2], 12), answers([4, 6, 8], 30), answers([0, 5], 9), answers([], 30)
    with ToolExecutor(8, 1.0) as executor:
        found = iter(executor.execute([*always, *later, *twice, *fine]))
    said = [[next(found) for _ in tool] for tool in (always, later, twice, fine)]
    answered = [[n for n, one in enumerate(tool) if one.status == "ok"] for tool in said]
    # The first three are late: the rest is not tried. Three of the second wave (3 to 8) are: what comes behind is not.
    assert answered == [[], [0, 1, 2, 3, 5, 7], [1, 2, 3, 4, 6, 7, 8], list(range(30))]
    texts = {one.text for tool in said for one in tool if one.status == "timeout"}
    assert texts == {"Error: tool gave no answer within 1 seconds."} and {one.status for one in said[0]} == {"timeout"}


def test_equal_calls_are_executed_once_and_give_equal_answers(executor):
    body = "import random, os\nreturn [random.random(), os.getpid()]"
    found = executor.execute([Request({"tool": function("tool", body)}, "tool", {})] * 50)
    assert len({one.text for one in found}) == 1
    seeded = [json.loads(said(executor, body + f" + [{n}]").text)[0] for n in range(4)]
    assert len(set(seeded)) == 1  # whatever ran before, and in whichever worker


@pytest.mark.parametrize(
    "body",
    [
        "open(path, 'w').write('x')",
        "open(path, 'x')",
        "import os\nos.close(os.open(path, os.O_CREAT | os.O_WRONLY))",
        "import os\nos.mkfifo(path)",
        "import os\nos.mknod(path)",
        "import os\nos.mkdir(path)",
        "import os\nos.symlink('/', path)",
        "import pathlib\npathlib.Path(path).touch()",
        "import tempfile, os\nos.rename(tempfile.mkstemp(dir=os.path.dirname(path))[1], path)",
        "import os, shutil\nshutil.copyfile(os.__file__, path)",
        "import sqlite3\nc = sqlite3.connect(path)\nc.execute('create table t (a)')",
        "import subprocess\nsubprocess.run(['touch', path], check=True)",
        "import os\nos.system('touch ' + path)",
        "import ctypes\nctypes.CDLL(None).creat(path.encode(), 0o600)",
        "import io\nio.FileIO(path, 'w')",
    ],
)
def test_no_file_comes_to_be(body, tmp_path, executor):
    here, there = tmp_path / "here", tmp_path / "there"
    run_here(body, "path=''", path=str(here))
    assert os.path.lexists(here)
    found = said(executor, body, "path=''", path=str(there))
    assert not os.path.lexists(there)
    assert [name for name in os.listdir(tmp_path) if name != "here"] == []
    assert found.status == "exception"


def test_files_are_neither_read_nor_removed_nor_changed(tmp_path, executor):
    kept = tmp_path / "kept.txt"
    kept.write_text("secret")
    bodies = [
        "return open(path).read()",
        "import os\nreturn os.read(os.open(path, os.O_RDONLY), 9).decode()",
        "import os\nos.remove(path)",
        "import os\nos.truncate(path, 0)",
        "import os\nos.chmod(path, 0)",
        "import os\nos.rename(path, path + '.moved')",
        "import os\nreturn os.listdir(os.path.dirname(path))",
        "import pathlib\nreturn pathlib.Path(path).read_text()",
        "import linecache\nreturn linecache.getlines(path)",
        "import readline\nreadline.read_history_file(path)\nreturn readline.get_history_item(1)",
        "import duckdb\nreturn duckdb.connect().execute('select content from read_text(?)', [path]).fetchall()",
        "import sys\nsys.path += [site]\nimport duckdb\nreturn duckdb.execute('from read_text(?)', [path]).fetchall()",
        "import _xxsubinterpreters as s\ns.run_string(s.create(), f'open({path!r}).read()')\nreturn 'secret'",
        "import tkinter\nreturn tkinter.Tcl().eval('set f [open ' + path + ']; read $f')",
    ]
    assert run_here(bodies[0], "path", path=str(kept)) == "secret"
    for body in bodies:
        found = said(executor, body, "path='', site=''", path=str(kept), site=os.path.dirname(os.path.dirname(pytest.__file__)))
        assert found.status == "exception" or "linecache" in body
        assert "secret" not in found.text and "kept" not in found.text
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert kept.read_text() == "secret" and kept.stat().st_mode & 0o600 == 0o600


def test_the_way_to_the_parent_is_closed(executor):
    forged = "import pickle, struct\nframe = pickle.dumps(('done', ('ok', 'forged')))\nmessage = struct.pack('<Q', len(frame)) + frame\n"
    ways = [
        "import os\nos.write(3, message)",
        "import io\nio.FileIO(3, 'wb').write(message)",
        "import socket\nsocket.socket(fileno=3).send(message)",
    ]
    bodies = [forged + way + "\nreturn 'sent'" for way in ways]
    requests = [Request({"tool": function("tool", body)}, "tool", {}) for body in [*bodies, "return 'honest'"]]
    found = executor.execute(requests)
    assert [one.status for one in found] == ["exception", "exception", "exception", "ok"]
    assert found[-1].text == "honest" and not any("forged" in one.text or one.text == "sent" for one in found)


def test_the_stream_of_the_worker_cannot_be_found_in_its_frames(executor):
    found = said(executor, """import sys, pickle, struct
frame = sys._getframe()
while frame and "stream" not in frame.f_locals:
    frame = frame.f_back
data = pickle.dumps(("done", ("ok", "forged")))
if frame:
    frame.f_locals["stream"].sendall(struct.pack("<Q", len(data)) + data)
return "sent\"""")
    assert found.status == "exception"
    body = "import sys\nf = sys._getframe()\nwhile f and 'stream' not in f.f_locals: f = f.f_back\nf.f_locals['stream'].sendall(b'x' * 64)"
    requests = [Request({"tool": function("tool", one)}, "tool", {}) for one in [body, *(f"return {n}" for n in range(20))]]
    assert [one.text for one in executor.execute(requests)[1:]] == [str(n) for n in range(20)]


def test_a_string_with_methods_of_its_own_brings_no_object_into_this_process(executor, tmp_path):
    mark = tmp_path / "mark"
    body = f"""class Evil:
    def __reduce__(self): return (eval, ("open({str(mark)!r}, 'w').close()",))
class Sly(str):
    def __str__(self): return self
    def __getitem__(self, _): return self
    def encode(self, *_): return self
    def decode(self, *_): return Evil()
return Sly('x')"""
    found = said(executor, body)
    assert type(found.text) is str and found.text in ("x", "") and not mark.exists()


def test_what_a_call_does_to_its_interpreter_ends_with_it(executor):
    poison = [
        "import json\njson.dumps = lambda *a, **k: 'poisoned'\nreturn {}", "import decimal\ndecimal.getcontext().prec = 2\nreturn 1",
        "import signal\ndef h(*a): raise ValueError('boo')\nsignal.signal(signal.SIGALRM, h)\nsignal.setitimer(0, 0.2)\nreturn 1",
        "import builtins\nbuiltins.len = lambda x: 7\nreturn 1",
    ]
    honest = [
        "return {'value': 1}", "import decimal\nreturn str(decimal.Decimal(1) / 7)",
        "import time\ntime.sleep(0.4)\nreturn len('abc')",
    ]
    with ToolExecutor(1, 5.0) as one:
        requests = [Request({"tool": function("tool", body)}, "tool", {}) for body in [*poison, *honest]]
        found = [feedback.text for feedback in one.execute(requests)]
    assert found[len(poison) :] == ['{"value": 1}', "0.1428571428571428571428571429", "3"]


def test_no_connection_is_made(executor):
    body = "import socket\nwith socket.create_connection(('127.0.0.1', port), timeout=1) as s:\n    s.sendall(b'x')\nreturn 'connected'"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        port = server.getsockname()[1]
        assert run_here(body, "port", port=port) == "connected"
        server.accept()[0].close()
        found = said(executor, body, "port=0", port=port)
        by_url = said(
            executor, "import urllib.request\nreturn urllib.request.urlopen(f'http://127.0.0.1:{port}').read()", "port=0", port=port
        )
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert (found.status, by_url.status) == ("exception", "exception")


def test_no_process_and_no_thread_survives(executor):
    bodies = [
        "import os\nif os.fork() == 0:\n    while True: pass",
        "import subprocess\nsubprocess.Popen(['sleep', '4321'])",
        "import os\nos.posix_spawn('/bin/sleep', ['sleep', '4321'], {})",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import _posixsubprocess, os\nos.spawnv(os.P_NOWAIT, '/bin/sleep', ['sleep', '4321'])",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(4321,)).start()",
        "import os\nos._exit(0)",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
        "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGKILL)",
        "import signal\nsignal.pidfd_send_signal(3, signal.SIGKILL)",
        f"import _posixsubprocess\n_posixsubprocess.fork_exec({', '.join(map(repr, FORK_EXEC))})",
    ]
    found = executor.execute([Request({"tool": function("tool", body)}, "tool", {}) for body in bodies])
    assert [one.status for one in found] == ["exception"] * 5 + ["ok", "crash"] + ["exception"] * 4
    running = descendants(os.getpid())
    assert not any("4321" in command(process.pid) for process in running)
    workers = [process for process in running if process.parent != os.getpid()]
    assert all(not descendants(worker.pid) and len(os.listdir(f"/proc/{worker.pid}/task")) == 1 for worker in workers)
    assert said(executor, "return 'still here'").text == "still here"


def test_memory_is_bounded_and_so_is_what_is_printed_and_returned(executor):
    lines = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert (lines[0], lines[2], lines[3]) == ("ok", "memory", "memory")
    assert int(lines[4]) - int(lines[1]) < 200  # 128 MiB are allowed, 2 GiB were asked for
    found = said(executor, "for _ in range(500):\n    print('x' * (1 << 20))\nreturn 'printed'")
    assert found.status in ("ok", "timeout") and len(found.text) < 100
    long = said(executor, "return 'y' * 10_000_000")
    assert (long.status, long.text) == ("ok", "y" * 500)


def test_what_utf_8_cannot_hold_and_messages_that_fail_do_no_harm(executor):
    assert said(executor, r"return '\ud800 x'").text == "? x"
    assert said(executor, "raise ValueError('\\udfff' * 900)").text.endswith("?")
    silent = "class Mute(Exception):\n    def __str__(self): raise self\nraise Mute()"
    assert said(executor, silent).text == "Error: tool failed with Mute"


def test_nothing_runs_after_the_executor_is_closed():
    with ToolExecutor(1, 1.0) as made:
        made.execute([Request({"tool": function("tool", "return 1")}, "tool", {})])
        mine = [process.pid for process in descendants(os.getpid()) if process.parent == os.getpid()]
        assert made.calls == 1 and made.waited > 0
    assert mine and not set(mine[-1:]) & {process.pid for process in descendants(os.getpid())}
