"""A company of real processes, each node in a network namespace of its own where that is possible: what `storm.py` and
`soak.py` share. Traffic stays on this machine: the namespaces are joined by one bridge that leads nowhere else."""
import json, os, shutil, signal, subprocess, sys, threading, time

ADDRESS = "10.231.7"
HUB = (f"{ADDRESS}.1", "7440")
# Tills dial this, and the relay calls the hub.
RELAY = (f"{ADDRESS}.254", 7440)


class Network:
    """One namespace for the hub and one for each till, over a bridge; tills reach the hub through a relay that makes
    their lines bad; every name is this process's own."""

    def __init__(self, tills):
        self.mark = f"ts{os.getpid() % 100000}"
        self.names = [f"{self.mark}-{at}" for at in range(tills + 1)]
        self.bridge = f"{self.mark}-br"
        self.parted = {}

    @staticmethod
    def impossible():
        """Why there can be no namespaces here; None: there can."""
        if os.geteuid() != 0:
            return "not root"
        if not shutil.which("ip"):
            return "ip is not here (iproute2)"
        name = f"ts{os.getpid() % 100000}-try"
        tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
        if tried.returncode != 0:
            return tried.stderr.strip() or "no namespaces"
        pair = ["ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", "eth1", "netns", name]
        paired = subprocess.run(pair, capture_output=True, text=True)
        subprocess.run(["ip", "netns", "del", name])
        return None if paired.returncode == 0 else f"veth: {paired.stderr.strip()}"

    def __enter__(self):
        do("ip", "netns", "add", self.bridge)
        self.inside(self.bridge, "ip", "link", "add", "br0", "type", "bridge")
        self.inside(self.bridge, "ip", "link", "set", "br0", "up")
        for at, name in enumerate(self.names):
            do("ip", "netns", "add", name)
            do("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"p{at}", "netns", self.bridge)
            self.inside(self.bridge, "ip", "link", "set", f"p{at}", "master", "br0")
            self.inside(self.bridge, "ip", "link", "set", f"p{at}", "up")
            self.inside(name, "ip", "address", "add", f"{ADDRESS}.{at + 1}/24", "dev", "eth0")
            self.inside(name, "ip", "link", "set", "eth0", "up")
            self.inside(name, "ip", "link", "set", "lo", "up")
        self.inside(self.bridge, "ip", "address", "add", f"{RELAY[0]}/24", "dev", "br0")
        relay = os.path.join(os.path.dirname(os.path.abspath(__file__)), "relay.py")
        self.relay = subprocess.Popen(
            ["ip", "netns", "exec", self.bridge, sys.executable, relay, RELAY[0], str(RELAY[1]), *HUB],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.relay.stdout.readline()
        return self

    def __exit__(self, *_):
        self.relay.stdin.close()
        self.relay.wait(10)
        for name in [*self.names, self.bridge]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)

    def inside(self, name, *command):
        do("ip", "netns", "exec", name, *command)

    def prefix(self, at):
        return ["ip", "netns", "exec", self.names[at]]

    def shape(self, at, loss=0.0, doubled=0.0, delay_ms=0, jitter_ms=0):
        """Gives a till's line its character, both ways."""
        self.relay.stdin.write(f"{ADDRESS}.{at + 1} {loss} {doubled} {delay_ms} {jitter_ms}\n")
        self.relay.stdin.flush()

    def part(self, at, parted):
        """Takes a node's interface down, or brings it back."""
        if self.parted.get(at, False) != parted:
            self.inside(self.names[at], "ip", "link", "set", "eth0", "down" if parted else "up")
            self.parted[at] = parted


def do(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


class Node:
    """A node's directory and its process, if it runs."""

    def __init__(self, binary, dir, prefix, run):
        self.binary, self.dir, self.prefix, self.run = binary, dir, prefix, run
        self.process, self.api = None, None

    def start(self):
        command = [*self.prefix, self.binary, *self.run, "--http", "127.0.0.1:0", "--dir", self.dir]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env={**os.environ, "RUST_LOG": "off"})
        line = self.process.stdout.readline()
        if not line.startswith("ready"):
            sys.exit(f"{command} did not start: {line}")
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        self.api = f"http://{fields['http']}"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def call(self, *arguments, input=None, check=True):
        done = subprocess.run([*self.prefix, self.binary, *arguments], input=input, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def ask(self, *arguments):
        return json.loads(self.call(*arguments, "--json").stdout)

    def waiting(self):
        done = self.call("status", "--json", "--api", self.api, check=False)
        return json.loads(done.stdout)["waiting"]["count"] if done.returncode == 0 else None


class Company:
    """A hub and its tills, enrolled and stopped."""

    def __init__(self, binary, folder, tills, network=None):
        prefix = lambda at: network.prefix(at) if network else []
        run = ["hub", "run", "--listen", "127.0.0.1:0"]
        if network:
            run = ["hub", "run", "--listen", ":".join(HUB), "--advertise", f"{RELAY[0]}:{RELAY[1]}"]
        self.hub = Node(binary, os.path.join(folder, "hub"), prefix(0), run)
        self.hub.call("hub", "init", "--dir", self.hub.dir, "--company", "Shops", "--currency", "GBP", "--json")
        self.hub.start()
        self.tills = []
        for at in range(1, tills + 1):
            till = Node(binary, os.path.join(folder, f"till-{at}"), prefix(at), ["terminal", "run"])
            name = f"till-{at}"
            enrolled = self.hub.ask("hub", "enroll", "--dir", self.hub.dir, "--store", "s", "--terminal", name)
            till.call("terminal", "join", "--dir", till.dir, "--code", enrolled["code"])
            till.start()
            self.tills.append(till)

    def records(self):
        return sum(store["records"] for store in self.hub.ask("stores", "--dir", self.hub.dir))

    def drawer(self, till):
        return self.hub.ask("ledger", "balances", "--dir", self.hub.dir)["balances"].get(f"Assets:Cash:Drawer:{till} GBP", 0)


def sale(receipt, amount):
    return json.dumps({"kind": "sale", "receipt": receipt, "currency": "GBP",
                       "lines": [{"sku": f"A-{amount}", "quantity": "1", "amount_minor": amount, "tax_minor": 0}],
                       "tenders": [{"type": "cash", "amount_minor": amount}]})


def until(what, holds, seconds=180):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)


def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread
