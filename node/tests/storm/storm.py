#!/usr/bin/env python3
"""A storm of `kill -9` at both sides over lines that lose, delay and part: real processes, real QUIC, a network namespace
a node.

  storm.py BIN ROUNDS [SEED]

Each round both tills capture while they, and twice the hub, are killed at random moments; lines are bad, and sometimes gone.
Then the cashier goes on where the answers stopped. At the end the network heals: every receipt is in the books exactly once,
under the record that was acknowledged first, and `verify` finds nothing. Exit code 77: skipped, with the reason.
"""
import json, os, random, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from company import Company, Network, in_background, sale, until

TILLS = 2
LINES = 400
# What a till's line is like in a round: loss, doubled, delay and jitter (ms; jitter is what reorders).
NETWORK = [(0, 0, 0, 0), (0.02, 0, 30, 20), (0.08, 0.02, 120, 60), (0.25, 0, 15, 5), (0.01, 0.1, 40, 40)]
# One in so many rounds a till's interface is down altogether.
PARTED_ONE_IN = 5


def main():
    binary, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 20261124
    reason = Network.impossible()
    if reason:
        print(f"skipped: no network namespaces here: {reason}")
        sys.exit(77)
    chance = random.Random(seed)
    began = time.monotonic()
    with Network(TILLS) as network, tempfile.TemporaryDirectory() as folder:
        storm = Storm(Company(binary, folder, TILLS, network), network, chance)
        try:
            for number in range(rounds):
                storm.round(number)
            storm.calm(rounds)
        finally:
            storm.end()
        verify(binary, [storm.company.hub.dir, *(till.dir for till in storm.company.tills)])
        print(f"{storm.kills} kills in {rounds} rounds, {storm.parted} partitions, {len(storm.known)} receipts, "
              f"{storm.cut_short} captures cut short: nothing lost, nothing twice, verify found nothing; "
              f"{time.monotonic() - began:.0f} s, seed {seed}")


class Storm:
    def __init__(self, company, network, chance):
        self.company, self.network, self.chance = company, network, chance
        self.known, self.kills, self.parted, self.cut_short = {}, 0, 0, 0

    def round(self, number):
        for at in range(1, TILLS + 1):
            self.network.shape(at, *self.chance.choice(NETWORK))
            parted = self.chance.randrange(PARTED_ONE_IN) == 0
            self.parted += parted
            self.network.part(at, parted)
        captures = [Capture(till, at, number) for at, till in enumerate(self.company.tills)]
        victims = [*self.company.tills, self.company.hub, self.company.hub]
        self.chance.shuffle(victims)
        for victim in victims:
            time.sleep(self.chance.choice((0.002, 0.01, 0.03, 0.08, 0.2)) * (0.5 + self.chance.random()))
            victim.kill()
            self.kills += 1
            victim.start()
        for capture in captures:
            answers = capture.end()
            self.cut_short += len(answers) < LINES
            self.learn(answers)
        # The cashier goes on: known receipts are answered with the first answer.
        for at, till in enumerate(self.company.tills):
            again = Capture(till, at, number)
            answers = again.end()
            if len(answers) != LINES:
                sys.exit(f"round {number}: {len(answers)} of {LINES} receipts of till {at + 1} were answered; its process: "
                         f"{till.process.poll()}; the capture: {again.words}")
            self.learn(answers)

    def learn(self, answers):
        for receipt, record in answers.items():
            if self.known.setdefault(receipt, record) != record:
                sys.exit(f"{receipt} was acknowledged as {self.known[receipt]} and as {record}")

    def calm(self, rounds):
        for at in range(1, TILLS + 1):
            self.network.shape(at)
            self.network.part(at, False)
        for at, till in enumerate(self.company.tills):
            until(f"the drain of till {at + 1}", lambda: till.waiting() == 0)
        expected = rounds * LINES * TILLS
        if len(self.known) != expected:
            sys.exit(f"{len(self.known)} receipts were acknowledged of {expected}")
        until("every record at the hub", lambda: self.company.records() == expected)
        taken = rounds * sum(range(100, 100 + LINES))
        for at in range(1, TILLS + 1):
            drawer = self.company.drawer(f"till-{at}")
            if drawer != taken:
                sys.exit(f"the drawer of till {at} holds {drawer} of {taken}")

    def end(self):
        for node in [*self.company.tills, self.company.hub]:
            if node.process.poll() is None:
                node.kill()


class Capture:
    """A capture of one round's lines at a till, beside whatever else happens."""

    def __init__(self, till, at, number):
        lines = "".join(sale(f"R-{at}-{number}-{n}", 100 + n) + "\n" for n in range(LINES))
        self.answers = {}
        self.thread = in_background(lambda: self.run(till, lines))

    def run(self, till, lines):
        done = till.call("capture", "-", "--api", till.api, input=lines, check=False)
        self.words = f"{done.returncode} {done.stderr[-1000:]}"
        for line in done.stdout.splitlines():
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if answer.get("state") == "saved":
                self.answers[answer["receipt"]] = answer["id"]

    def end(self):
        self.thread.join()
        return self.answers


def verify(binary, dirs):
    for dir in dirs:
        done = subprocess.run([binary, "verify", "--json", "--dir", dir], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"verify {dir}: {done.stdout}{done.stderr}")


main()
