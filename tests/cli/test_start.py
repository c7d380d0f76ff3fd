"""How a command starts and ends: Ctrl-C is one word at any moment, and nothing near is imported."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

INTERRUPT = "os.kill(os.getpid(), signal.SIGINT); time.sleep(5); print('went on')"

LAUNCHER = """
import sys
sys.path.insert(0, sys.argv[1])
import robustjax.cli
robustjax.cli.__path__.append(sys.argv[2])
from robustjax.cli.start import run
if __name__ == "__main__":
    exec(sys.argv[3])
    run("made_up")
"""


@pytest.fixture
def launch(tmp_path):
    """(source of a command, what to do before it starts) -> how it ended."""

    def run(source, before="", **environment):
        commands, working_directory = tmp_path / "commands", tmp_path / "working"
        commands.mkdir()
        working_directory.mkdir(exist_ok=True)
        head = "import atexit, os, signal, sys, threading, time\n"
        (commands / "made_up.py").write_text(head + source)
        (tmp_path / "launcher.py").write_text(LAUNCHER)
        return subprocess.run(
            [sys.executable, tmp_path / "launcher.py", ROOT, commands, before],
            cwd=working_directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


INTERRUPTED = {
    "while it is imported": INTERRUPT,
    "while an import would swallow it": f"""
try:
    {INTERRUPT}
except BaseException:
    print("swallowed")
def main():
    print("main")
""",
    "while it runs": f"def main(): {INTERRUPT}",
    "after it returned": f"""
def main():
    atexit.register(lambda: exec({INTERRUPT!r}, globals()))
""",
    "after it ended with success": f"""
def main():
    atexit.register(lambda: exec({INTERRUPT!r}, globals()))
    sys.exit(0)
""",
    "while a thread goes on": f"""
def main():
    threading.Thread(target=time.sleep, args=(50,)).start()
    {INTERRUPT}
""",
}


@pytest.mark.parametrize("source", INTERRUPTED.values(), ids=list(INTERRUPTED))
def test_an_interrupt_is_one_word_at_any_moment(launch, source):
    begin = time.monotonic()
    found = launch(source)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "interrupted\n")
    assert time.monotonic() - begin < 30


def test_what_was_said_before_an_interrupt_is_said(launch):
    found = launch(f"def main():\n    print('half a line', end='')\n    {INTERRUPT}")
    assert (found.returncode, found.stdout) == (130, "half a line")
    assert found.stderr == "interrupted\n"


def test_a_command_that_has_told_of_its_interrupt_is_not_told_of_again(launch):
    source = """
def main():
    atexit.register(print, "too late")
    threading.Thread(target=time.sleep, args=(50,)).start()
    print("interrupted", file=sys.stderr)
    sys.exit(130)
"""
    found = launch(source)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [
        ("return", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('a message')", 1, "a message\n"),
        ("raise KeyError('a mistake of ours')", 1, "KeyError: 'a mistake of ours'\n"),
    ],
)
def test_every_other_end_is_left_as_it_is(launch, ending, status, words):
    found = launch(f"def main():\n    atexit.register(print, 'the end')\n    {ending}")
    assert (found.returncode, found.stdout) == (status, "the end\n")
    assert found.stderr.endswith(words) and "interrupted" not in found.stderr
    assert bool(found.stderr) == bool(words)


def test_whoever_ignores_interrupts_is_not_ended_by_one(launch):
    """As a shell script has it of the commands that it starts with "&"."""
    source = """
os.kill(os.getpid(), signal.SIGINT)
print("imported")
def main():
    os.kill(os.getpid(), signal.SIGINT)
    atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), print("ended")))
    print("ran")
"""
    found = launch(source, "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.split() == ["imported", "ran", "ended"]


def test_nothing_of_the_working_directory_or_the_checkout_is_imported(launch, tmp_path):
    working_directory = tmp_path / "working"
    working_directory.mkdir()
    (tmp_path / "link").symlink_to(working_directory)
    # A library that is imported late, and a folder of data with the name of one.
    (working_directory / "colorsys.py").write_text("open('marker', 'w').close()")
    (working_directory / "PIL_of_mine").mkdir()
    source = """
def main():
    import importlib.util
    import colorsys
    print("colorsys", hasattr(colorsys, "hls_to_rgb"))
    for name in ("PIL_of_mine", "launch", "tests"):
        spec = importlib.util.find_spec(name)
        print(name, spec and list(spec.submodule_search_locations))
    import robustjax.arguments
    import robustjax.cli.flag_files
    print("robustjax", robustjax.arguments.LARGEST_COUNT > 0)
"""
    places = ["", ".", str(working_directory), str(tmp_path / "link"), str(ROOT)]
    found = launch(
        source,
        f"sys.path[:0] = {places!r}",
        PYTHONPATH=os.pathsep.join([str(working_directory), str(ROOT)]),
    )
    assert found.stderr == ""
    assert found.stdout.splitlines() == [
        "colorsys True",
        "PIL_of_mine None",
        "launch None",
        "tests None",
        "robustjax True",
    ]
    assert not (working_directory / "marker").exists()


def test_other_places_of_the_import_path_stay(launch, tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "library_of_mine.py").write_text("")
    (tmp_path / "working" / "below").mkdir(parents=True)
    (tmp_path / "working" / "below" / "another_of_mine.py").write_text("")
    places = [str(tmp_path / "place"), str(tmp_path / "working" / "below")]
    found = launch(
        "def main():\n    import library_of_mine, another_of_mine, json\n    print('found')",
        f"sys.path[:0] = {places!r}",
    )
    assert (found.stdout, found.stderr) == ("found\n", "")


def test_a_working_directory_that_was_removed_is_no_mistake(launch):
    found = launch("def main(): print('ran')", "import os; os.rmdir(os.getcwd())")
    assert (found.returncode, found.stdout, found.stderr) == (0, "ran\n", "")


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.py")), ids=lambda path: path.stem)
def test_every_launcher_starts_its_command_this_way(path):
    source = path.read_text()
    assert source.endswith(f'if __name__ == "__main__":\n    run("{path.stem}")\n')
    assert callable(importlib.import_module(f"robustjax.cli.{path.stem}").main)
