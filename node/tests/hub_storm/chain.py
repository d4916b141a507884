"""A company of several hubs as real processes on loopback: its hubs, its tills, and what the outside may ask them."""
import http.client, json, os, signal, subprocess, sys, threading, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "storm"))
from company import Node, sale, until  # noqa: F401 (handed on)

STATUS_SECONDS = 5


class Process(Node):
    """A node whose process is killed, paused and begun again, each life on the same directory."""

    def __init__(self, name, binary, dir, run, env=None):
        super().__init__(binary, dir, [], run)
        self.name, self.env, self.paused = name, {**os.environ, **(env or {})}, False
        self.log, self.lives = dir + ".log", 0

    def launch(self):
        """Begins a life; False: the process ended before it was ready."""
        command = [self.binary, *self.run, "--http", "127.0.0.1:0", "--dir", self.dir]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                            env={**self.env, "RUST_LOG": os.environ.get("RUST_LOG", "warn")})
        line = self.process.stdout.readline()
        if not line.startswith("ready"):
            self.process.wait()
            return False
        self.fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        self.api, self.lives = f"http://{self.fields['http']}", self.lives + 1
        return True

    def start(self):
        if not self.launch():
            with open(self.log) as log:
                raise RuntimeError(f"{self.name} did not start: {log.read()[-2000:]}")

    def is_there(self):
        return self.process is not None and self.process.poll() is None and not self.paused

    def pause(self):
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def call(self, *arguments, input=None, check=True):
        done = subprocess.run([self.binary, *arguments], input=input, capture_output=True, text=True, env=self.env)
        if check and done.returncode != 0:
            raise RuntimeError(f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()


class Api:
    """Requests to a node's HTTP API over one connection, made anew when it breaks."""

    def __init__(self, node, timeout):
        self.node, self.timeout, self.connection, self.at = node, timeout, None, None

    def send(self, method, path, body=None, headers=None):
        """Status and answer; OSError or HTTPException when there was none."""
        at = self.node.api.removeprefix("http://")
        if self.connection is None or self.at != at:
            self.connection, self.at = http.client.HTTPConnection(at, timeout=self.timeout), at
        try:
            self.connection.request(method, path, body, headers or {})
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def json(self, path, headers=None):
        status, body = self.send("GET", path, headers=headers)
        if status != 200:
            raise OSError(f"{path}: {status} {body[:300]}")
        return json.loads(body)


class Chain:
    """Hubs and tills, enrolled and running."""

    def __init__(self, binary, folder, server, hubs, stores, tills, shards=8):
        env = {"TILLSYNC_DATABASE": server.url()}
        self.hubs = []
        for number in range(1, hubs + 1):
            run = ["hub", "run", "--listen", "127.0.0.1:0", "--shards", str(shards)]
            self.hubs.append(Process(f"hub-{number}", binary, os.path.join(folder, f"hub-{number}"), run, env))
        first = self.hubs[0]
        first.call("hub", "init", "--dir", first.dir, "--company", "Chain", "--currency", "GBP", "--json")
        first.start()
        for hub in self.hubs[1:]:
            first.call("hub", "add", "--dir", first.dir, "--to", hub.dir, "--json")
            hub.start()
        for hub in self.hubs:
            # Tills find a hub again where it was.
            hub.run = [*hub.run[:3], hub.fields["quic"], *hub.run[4:]]
        self.tills, self.store_of = [], {}
        for at in range(tills):
            name, store = f"till-{at + 1}", f"store-{at % stores + 1}"
            till = Process(name, binary, os.path.join(folder, name), ["terminal", "run"])
            till.env.pop("TILLSYNC_DATABASE", None)
            by = self.hubs[at % hubs]
            code = json.loads(by.call("hub", "enroll", "--json", "--dir", by.dir, "--store", store, "--terminal", name).stdout)
            till.call("terminal", "join", "--dir", till.dir, "--code", code["code"])
            till.start()
            self.tills.append(till)
            self.store_of[name] = store

    def ask(self, hub, *arguments):
        return json.loads(hub.call(*arguments, "--json", "--dir", hub.dir).stdout)

    def end(self):
        for node in [*self.tills, *self.hubs]:
            if node.process is not None and node.process.poll() is None:
                # A stopped process dies of it, too.
                node.process.kill()
                node.process.wait()


def thread_of(troubles, work):
    """A thread whose failure is a trouble of the run."""
    def run():
        try:
            work()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is said at the end)
            troubles.append(f"{getattr(work, '__qualname__', work)}: {error!r}")
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
