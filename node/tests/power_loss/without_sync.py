#!/usr/bin/env python3
"""Doubts the checker: replays a recording as if the build had one fsync less, and expects that promises are then missing.

  TOOL=…/powerloss.py without_sync.py REC CHECK [CUTS]

For each kind of file the recording's syncs of that kind are taken out, one kind at a time, as if that call were gone from the code. The
product is not changed and has no switch for it. Prints a row a kind; exit code 1 if a loss was not seen where one must be.
"""
import importlib.util, json, os, re, subprocess, sys, tempfile

KINDS = [  # what, path below the recorded directory, whether something acknowledged must go missing
    ("log segment", r"log/.*\.seg(\.tmp)?$", True),
    ("folder of the log", r"(^|/)log$", True),
    ("node's folder", r"^node$", True),
    ("identity files", r"identity/.+", True),
    ("identity folder", r"identity$", True),
    ("mark", r"mark(\.tmp)?$", False),
    ("manifest", r"manifest(\.tmp)?$", False),
    ("index", r"index(\..*)?/.*|index(\..*)?$", False),
]


def replay(pattern, arguments):
    """In a process of its own: the tool with one method that forgets some syncs."""
    spec = importlib.util.spec_from_file_location("powerloss", os.environ["TOOL"])
    tool = importlib.util.module_from_spec(spec)
    sys.modules["powerloss"] = tool
    spec.loader.exec_module(tool)
    honest = tool.History._sys_fsync

    def forgetting(self, process, call, a):
        ofd = process.fds.get(int(a[0]))
        if ofd and ofd.inode and re.search(pattern, str(self.path_of(ofd.inode) or ofd.inode.label)):
            return
        honest(self, process, call, a)

    tool.History._sys_fsync = tool.History._sys_fdatasync = forgetting
    sys.argv = ["powerloss.py", "replay", *arguments]
    sys.exit(tool.main())


def main():
    if sys.argv[1] == "--one":
        return replay(sys.argv[2], sys.argv[3:])
    rec, check, cuts = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["40"])[0]
    blind = False
    for what, pattern, must in KINDS:
        with tempfile.NamedTemporaryFile(suffix=".json") as told:
            done = subprocess.run(
                [sys.executable, __file__, "--one", pattern, rec, "--check", check, "--cuts", cuts, "--tries", "2",
                 "--jobs", os.environ.get("JOBS", "2"), "--json", told.name],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            rows = json.load(told)["table"].values()
        sums = {kind: sum(row.get(kind, 0) for row in rows)
                for kind in ("images", "LOST", "no-open", "init", "damaged", "phantom", "timeout")}
        caught = done.returncode != 0
        figures = ", ".join(f"{count} {kind}" for kind, count in sums.items() if count)
        print(f"{what:<20} {'caught' if caught else 'not caught':<11} {figures}", flush=True)
        blind |= must and not caught
    sys.exit(1 if blind else 0)


main()
