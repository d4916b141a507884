#!/usr/bin/env python3
"""Hours of trade beside steady abuse: do memory and descriptors stay where they are?

  soak.py BIN MINUTES [PER_SECOND]

A hub and three tills on loopback. Tills sell; links are torn (a till is killed now and then), exports are cut, statuses read;
meanwhile callers open HTTP connections at hub and tills, say half a request and stay. Every ten seconds resident memory
and descriptors of each process are read from /proc; a killed till begins a new column of figures. Prints a table, and fails
if a process holds more descriptors at its end than it ever may, or its memory grew by more than a record is known to cost.
"""
import json, os, random, socket, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from company import Company, in_background, sale, until

TILLS = 3
# Callers who say half a request at each node, at a time.
HALF_OPEN = 40
# What a resting record may cost, with the allocator's slack.
RECORD_BYTES = 1_500
# Memory that comes and goes: buffers, caches, chunks unpacked for somebody.
SLACK_BYTES = 48 << 20
SAMPLE_SECONDS = 10


def read(process):
    with open(f"/proc/{process.pid}/status") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    return rss << 10, len(os.listdir(f"/proc/{process.pid}/fd"))


class Abuse:
    """Half-open HTTP connections, always about so many."""

    def __init__(self, nodes):
        self.nodes, self.open, self.shed, self.going = nodes, [], 0, True
        self.thread = in_background(self.run)

    def run(self):
        while self.going:
            for node in self.nodes:
                host, port = node.api.removeprefix("http://").split(":")
                try:
                    caller = socket.create_connection((host, int(port)), timeout=5)
                    caller.sendall(b"POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-le")
                    caller.setblocking(False)
                    self.open.append(caller)
                except OSError:
                    continue
            keep = []
            for caller in self.open:
                try:
                    ended = caller.recv(4096) == b""
                except BlockingIOError:
                    ended = False
                except OSError:
                    ended = True
                self.shed += ended
                keep.append(caller) if not ended else caller.close()
            self.open = keep[-HALF_OPEN * len(self.nodes):]
            time.sleep(0.25)

    def end(self):
        self.going = False
        self.thread.join()
        for caller in self.open:
            caller.close()


def main():
    binary, minutes = os.path.abspath(sys.argv[1]), float(sys.argv[2])
    pace = float(sys.argv[3]) if len(sys.argv) > 3 else 20
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        company = Company(binary, folder, TILLS)
        abuse = Abuse([company.hub, *company.tills])
        began, sold, kills, exports = time.monotonic(), [0] * TILLS, 0, 0
        lives = {"hub": Life("hub", 0)} | {f"till-{at + 1}": Life(f"till-{at + 1}", 0) for at in range(TILLS)}
        ended = []
        sampled = exported = killed = began
        try:
            while (now := time.monotonic()) < began + minutes * 60:
                for at, till in enumerate(company.tills):
                    due = int((now - began) * pace / TILLS)
                    lines = "".join(sale(f"R-{at}-{n}", 100 + n % 50_000) + "\n" for n in range(sold[at], due))
                    if lines:
                        till.call("capture", "-", "--api", till.api, input=lines)
                    sold[at] = max(sold[at], due)
                if now - sampled >= SAMPLE_SECONDS:
                    sampled = now
                    total = sum(sold)
                    lives["hub"].sample(company.hub.process, total)
                    for at, till in enumerate(company.tills):
                        lives[f"till-{at + 1}"].sample(till.process, total)
                        till.waiting()
                if now - exported >= 120:
                    exported, exports = now, exports + 1
                    company.hub.call("export", "--format", "hledger", "--out", os.path.join(folder, f"out-{exports}"),
                                     "--dir", company.hub.dir)
                if now - killed >= 300:
                    killed, kills, at = now, kills + 1, chance.randrange(TILLS - 1)
                    ended.append(lives[f"till-{at + 1}"])
                    company.tills[at].kill()
                    company.tills[at].start()
                    lives[f"till-{at + 1}"] = Life(f"till-{at + 1} again", sum(sold))
                time.sleep(0.2)
            for till in company.tills:
                until("the drain", lambda: till.waiting() == 0)
            until("every record at the hub", lambda: company.records() == sum(sold))
        finally:
            abuse.end()
            for node in [company.hub, *company.tills]:
                if node.process.poll() is None:
                    node.stop()
        print(f"{minutes:g} minutes, {sum(sold)} sales, {exports} exports, {kills} kills, "
              f"{abuse.shed} half-open callers shed")
        print("| process | minutes | records | MiB at first, after a quarter, at the end | descriptors at first, most, end |")
        print("|---|---|---|---|---|")
        wrong = [life.row() for life in [*ended, *lives.values()]]
        sys.exit("\n".join(filter(None, wrong)) or 0)


class Life:
    """The samples of one process."""

    def __init__(self, name, records):
        self.name, self.samples, self.records, self.began = name, [], records, time.monotonic()

    def sample(self, process, records):
        self.samples.append((*read(process), records))

    def row(self):
        """Prints the figures; gives what is wrong with them."""
        if len(self.samples) < 8:
            return None
        first, quarter, last = self.samples[0], self.samples[len(self.samples) // 4], self.samples[-1]
        # The mean of the last eighth: a single sample is as chance has it.
        tail = [rss for rss, _, _ in self.samples[-len(self.samples) // 8:]]
        end, most = sum(tail) / len(tail), max(fds for _, fds, _ in self.samples)
        print(f"| {self.name} | {len(self.samples) * SAMPLE_SECONDS / 60:.0f} | {last[2] - self.records} "
              f"| {first[0] / 2**20:.1f}, {quarter[0] / 2**20:.1f}, {end / 2**20:.1f} | {first[1]}, {most}, {last[1]} |")
        grown, allowed = end - quarter[0], SLACK_BYTES + RECORD_BYTES * (last[2] - quarter[2])
        if grown > allowed:
            return f"{self.name}: memory grew by {grown / 2**20:.1f} MiB, {allowed / 2**20:.1f} are explained"
        # A quarter of the way in the abuse is at its height, so its descriptors are in both figures.
        if last[1] > quarter[1] + HALF_OPEN:
            return f"{self.name}: {last[1]} descriptors at the end, {quarter[1]} after a quarter"
        return None


main()
