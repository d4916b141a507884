"""A PostgreSQL server of a run's own: made in a temporary folder, on a port of loopback, with a password, stopped when it goes.
It must not run as root; where we are root, an account without rights runs it (as tests/common/postgres.rs)."""
import glob, os, pwd, shutil, socket, subprocess, tempfile

PASSWORD = "till roll"
ACCOUNTS = ("postgres", "nobody")


def programs():
    """The folder of the server's programs, the newest if there are several; None: there is none."""
    found = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if path.split("/")[4].isdigit()]
    found.sort(key=lambda path: int(path.split("/")[4]), reverse=True)
    for path in [*found, *os.environ.get("PATH", "").split(os.pathsep)]:
        if all(os.path.exists(os.path.join(path, name)) for name in ("initdb", "pg_ctl", "psql")):
            return path
    return None


class Server:
    def __init__(self):
        self.programs, self.account = programs(), None
        self.dir = tempfile.mkdtemp(prefix="tillsync-storm-")
        if os.geteuid() == 0:
            self.account = next(name for name in ACCOUNTS if known(name))
            shutil.chown(self.dir, self.account)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        word = os.path.join(self.dir, "password")
        with open(word, "w") as file:
            file.write(PASSWORD)
        self.run("initdb", "-D", self.path("data"), "-U", "postgres", "--no-sync", "-A", "scram-sha-256", "--pwfile", word)
        self.resume()

    def path(self, name):
        return os.path.join(self.dir, name)

    def url(self):
        return f"postgres://postgres:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"

    def resume(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.dir}"
        self.run("pg_ctl", "-D", self.path("data"), "-o", options, "-l", self.path("log"), "-w", "start")

    def stop(self, mode):
        self.run("pg_ctl", "-D", self.path("data"), "-m", mode, "-w", "stop")

    def cut(self):
        """Ends every connection of Tillsync's; how many there were."""
        return int(self.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                            "WHERE application_name LIKE 'tillsync%'"))

    def sql(self, statements):
        """What statements print, bare."""
        command = [os.path.join(self.programs, "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                   "-p", str(self.port), "-U", "postgres", "-d", "postgres", "-c", statements]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PGPASSWORD": PASSWORD})
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def rows(self, query):
        return [line.split("|") for line in self.sql(query).splitlines()]

    def run(self, program, *arguments):
        command = [os.path.join(self.programs, program), *arguments]
        if self.account:
            command = ["runuser", "-u", self.account, "--", *command]
        # The server inherits what it may keep open: no pipe of ours, or reading it would never end.
        with open(os.path.join(self.dir, f"{program}.said"), "a") as said:
            done = subprocess.run(command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        if done.returncode != 0:
            with open(said.name) as said:
                raise RuntimeError(f"{program}: {said.read()[-2000:]}")

    def remove(self):
        if os.path.exists(os.path.join(self.path("data"), "postmaster.pid")):
            self.stop("immediate")
        shutil.rmtree(self.dir, ignore_errors=True)


def known(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False
