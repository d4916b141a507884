#!/usr/bin/env python3
"""A storm over a company of several hubs on a real PostgreSQL: real processes, real QUIC.

  run.py BIN MINUTES [--seed N] [--hubs 3] [--stores 10] [--tills 30] [--pace 2] [--within 10] [--events LIST] [--keep]

Every till sells, refunds and voids all the time, head office works at any hub. Hubs are killed, paused and stopped, and come
back; the database is restarted, in order and by a crash; its connections are cut; tills are killed. The seed makes the
schedule. Then everybody lives, nothing more is sold, and the books are compared (books.py). Exit code 0: they are right, and
after each death, pause or stop of a hub every till's next record was at a hub within `--within` seconds; 1: something is
wrong; 2: only the time was longer. 77: skipped, with the reason.
"""
import argparse, json, os, random, shutil, sys, tempfile, threading, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from books import Books
from chain import Chain, thread_of
from database import Server, programs
from trade import Cashier, HeadOffice, Shelf
from watching import Watching

# What happens, and how often beside the others.
EVENTS = (("kill", 6), ("pause", 5), ("stop", 3), ("till", 5), ("cut", 3), ("restart", 2), ("crash", 2), ("together", 1))
# From one event to the next, seconds.
GAP = (2.0, 14.0)
# A hub that begins is counted as away for so much longer.
BEGINNING = 6
# Lives of a hub that may be refused while the database is away.
BEGINNINGS = 60


def plan(chance, seconds, hubs, tills):
    """The schedule: (moment, what, whom, how long). One hub is always left, except where all die together."""
    events, at, away = [], 8.0, [0.0] * hubs
    names, weights = zip(*EVENTS)
    while at < seconds - 12:
        what = chance.choices(names, weights)[0]
        long, whom = chance.uniform(0, 1), chance.randrange(1 << 16)
        there = [hub for hub in range(hubs) if away[hub] <= at]
        if what in ("kill", "pause", "stop"):
            if len(there) > 1:
                hub = there[whom % len(there)]
                long = {"kill": 0.5 + 40 * long * long, "pause": 1 + 19 * long, "stop": 20 * long * long}[what]
                away[hub] = at + long + BEGINNING
                events.append((at, what, hub, long))
        elif what == "together":
            if len(there) == hubs:
                away = [at + 8 * long + BEGINNING] * hubs
                events.append((at, what, None, 8 * long))
        elif what == "till":
            events.append((at, what, whom % tills, 8 * long))
        else:
            events.append((at, what, None, 6 * long))
        at += chance.uniform(*GAP)
    return events


def read(text):
    """A schedule given by hand: `SECOND:WHAT:WHOM:HOW LONG`, several with commas."""
    events = [event.split(":") for event in text.split(",")]
    return [(float(at), what, int(whom or 0), float(long)) for at, what, whom, long in events]


class Storm:
    def __init__(self, chain, server, watching, troubles):
        self.chain, self.server, self.watching, self.troubles = chain, server, watching, troubles
        self.database_there, self.last_away = True, 0.0
        self.began = time.monotonic()
        self.threads, self.counts, self.connections, self.refused_starts = [], {}, 0, 0
        self.store_log = None

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def tills_of(self, hub):
        """The tills whose store a hub has, by the database's word."""
        stores = {row[0] for row in self.server.rows(
            "SELECT DISTINCT e.store FROM tillsync.entry e JOIN tillsync.log l USING (log_id) JOIN tillsync.hub h ON h.hub = l.hub "
            f"WHERE h.address = '{hub.fields['quic']}' AND l.lease_until > now() AND e.store <> '' "
            "AND l.log_id NOT IN (SELECT log_id FROM tillsync.company)")}
        there = {till.name for till in self.chain.tills if till.is_there()}
        return {name for name in there if self.chain.store_of[name] in stores}

    def later(self, seconds, work):
        def run():
            time.sleep(seconds)
            work()
        self.threads.append(thread_of(self.troubles, run))

    def begin(self, node):
        """A life of a node. While the database is away a hub may be refused, as long as it says so; a person, or systemd,
        begins it again."""
        for _ in range(BEGINNINGS):
            if node.launch():
                return
            if self.database_there and time.monotonic() - self.last_away > 20:
                break
            self.refused_starts += 1
            time.sleep(1)
        raise RuntimeError(f"{node.name} did not start: {node.said()[-2000:]}")

    def happen(self, what, whom, long):
        self.counts[what] = self.counts.get(what, 0) + 1
        {"kill": self.kill, "pause": self.pause, "stop": self.stop, "till": self.kill_till, "cut": self.cut,
         "restart": lambda *_: self.restart("fast", long), "crash": lambda *_: self.restart("immediate", long),
         "together": self.together}[what](whom, long)
        if self.database_there:
            now = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tillsync%'"
            self.connections = max(self.connections, int(self.server.sql(now)))

    def hub_for(self, whom):
        hub = self.chain.hubs[whom]
        others = [other for other in self.chain.hubs if other is not hub and other.is_there()]
        if hub.is_there() and others:
            return hub
        self.say(f"{hub.name} is left alone: it or the others are not there yet")
        return None

    def kill(self, whom, long):
        if hub := self.hub_for(whom):
            tills = self.tills_of(hub)
            hub.kill()
            self.watching.begin("kill", hub.name, tills, time.monotonic())
            self.say(f"{hub.name} is killed, with {len(tills)} tills, for {long:.1f} s")
            self.later(long, lambda: self.begin(hub))

    def pause(self, whom, long):
        if hub := self.hub_for(whom):
            tills = self.tills_of(hub)
            hub.pause()
            self.watching.begin("pause", hub.name, tills, time.monotonic())
            self.say(f"{hub.name} is paused, with {len(tills)} tills, for {long:.1f} s")
            self.later(long, hub.wake)

    def stop(self, whom, long):
        if hub := self.hub_for(whom):
            tills = self.tills_of(hub)
            self.watching.begin("stop", hub.name, tills, time.monotonic())
            self.say(f"{hub.name} is stopped, with {len(tills)} tills, for {long:.1f} s")
            process, hub.paused = hub.process, True

            def go_and_come():
                process.terminate()
                code = process.wait(60)
                hub.paused = False
                if code != 0 and self.database_there and time.monotonic() - self.last_away > 20:
                    raise RuntimeError(f"{hub.name} ended with {code} when it was stopped: {hub.said()[-1500:]}")
                time.sleep(long)
                self.begin(hub)
            self.threads.append(thread_of(self.troubles, go_and_come))

    def together(self, _, long):
        if not all(hub.is_there() for hub in self.chain.hubs):
            return self.say("not all hubs are there to die together")
        for hub in self.chain.hubs:
            hub.kill()
            self.later(long, lambda hub=hub: self.begin(hub))
        there = {till.name for till in self.chain.tills if till.is_there()}
        self.watching.begin("together", "all", there, time.monotonic())
        self.say(f"all hubs are killed for {long:.1f} s")

    def kill_till(self, whom, long):
        till = self.chain.tills[whom]
        if till.is_there():
            self.watching.till_died(till.name)
            till.kill()
            self.say(f"{till.name} is killed for {long:.1f} s")
            self.later(long, till.start)

    def cut(self, *_):
        there = {till.name for till in self.chain.tills if till.is_there()}
        self.watching.begin("cut", "the database", there, time.monotonic())
        self.say(f"{self.server.cut()} connections to the database are cut")

    def restart(self, mode, long):
        self.database_there = False
        self.server.stop(mode)
        self.say(f"the database is stopped ({mode}) for {long:.1f} s")
        time.sleep(long)
        self.server.resume()
        self.database_there, self.last_away = True, time.monotonic()
        there = {till.name for till in self.chain.tills if till.is_there()}
        self.watching.begin("database", "the database", there, time.monotonic())
        self.say("the database is back")

    def run(self, events):
        for at, what, whom, long in events:
            time.sleep(max(0.0, self.began + at - time.monotonic()))
            self.happen(what, whom, long)

    def calm(self):
        """Everybody lives."""
        for thread in self.threads:
            thread.join(120)
        for node in [*self.chain.hubs, *self.chain.tills]:
            if not node.is_there():
                self.troubles.append(f"{node.name} is not there at the end: {node.said()[-1000:]}")
                self.begin(node)


def verify(chain, server, books):
    """Stops everybody, and looks at what lies there."""
    for till in chain.tills:
        till.stop()
        done = till.call("verify", "--json", "--dir", till.dir, check=False)
        if done.returncode != 0:
            books.wrong(f"verify {till.name}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    for hub in chain.hubs:
        hub.stop()
        if hub.process.returncode != 0:
            books.wrong(f"{hub.name} ended with {hub.process.returncode}")
    done = chain.hubs[0].call("verify", "--json", "--dir", chain.hubs[0].dir, check=False)
    checked = json.loads(done.stdout)["checked"]["records"] if done.stdout.startswith("{") else 0
    if checked == 0:
        # What is only in the directory of one of several hubs says nothing.
        print("verify of the hubs' logs: it does not read logs that are spread")
    elif done.returncode != 0 or checked < len(books.known):
        books.wrong(f"verify of the hubs' logs: {done.stdout[-1000:]}{done.stderr[-1000:]}")


def main():
    words = argparse.ArgumentParser()
    words.add_argument("binary")
    words.add_argument("minutes", type=float)
    for name, default in (("seed", 20261129), ("hubs", 3), ("stores", 10), ("tills", 30)):
        words.add_argument(f"--{name}", type=int, default=default)
    words.add_argument("--pace", type=float, default=2.0)
    words.add_argument("--within", type=float, default=10.0)
    words.add_argument("--events", help="instead of the seed's schedule: SECOND:WHAT:WHOM:HOW LONG, several with commas")
    words.add_argument("--keep", action="store_true")
    given = words.parse_args()
    if programs() is None:
        print("skipped: no PostgreSQL server is installed (apt-get install postgresql)")
        sys.exit(77)
    chance = random.Random(given.seed)
    events = read(given.events) if given.events else plan(chance, given.minutes * 60, given.hubs, given.tills)
    troubles, folder, server, chain = [], tempfile.mkdtemp(prefix="tillsync-storm-"), Server(), None
    try:
        chain = Chain(os.path.abspath(given.binary), folder, server, given.hubs, given.stores, given.tills)
        shelves = {store: Shelf() for store in chain.store_of.values()}
        cashiers = {till.name: Cashier(till, shelves[chain.store_of[till.name]], f"{given.seed} {till.name}", given.pace)
                    for till in chain.tills}
        office = HeadOffice(chain, f"{given.seed} office")
        watching = Watching(chain.tills, cashiers, time.monotonic())
        storm = Storm(chain, server, watching, troubles)
        sellers = [thread_of(troubles, cashier.run) for cashier in cashiers.values()]
        others = [thread_of(troubles, office.run), thread_of(troubles, watching.run)]
        storm.run(events)
        storm.calm()
        time.sleep(12)
        lasted = time.monotonic() - storm.began
        for going in (*cashiers.values(), office):
            going.going = False
        for thread in (*sellers, others[0]):
            thread.join(60)
        books = Books(chain, server, cashiers, office, troubles)
        storm.say(f"quiet; {len(books.known)} baskets were acknowledged")
        books.settle()
        watching.going = False
        others[1].join(10)
        books.check()
        late = watching.report(given.within)
        verify(chain, server, books)
        kinds = ", ".join(f"{count} {what}" for what, count in sorted(storm.counts.items()))
        rung = sum(cashier.rung_again for cashier in cashiers.values())
        print(f"\n{lasted / 60:.1f} minutes, seed {given.seed}, {given.hubs} hubs, {given.tills} tills, {given.stores} stores; {kinds}; "
              f"{storm.refused_starts} starts refused beside a database that was away")
        print(f"{len(books.known)} receipts ({rung} calls rung again), custody {dict(books.custody)}, cases {dict(books.cases)}; head office "
              f"asked {office.asked} times and was refused {office.refused}: {len(office.people)} people, {len(office.exports)} exports; "
              f"at most {storm.connections} connections to the database")
        for reason, count in sorted(office.reasons.items(), key=lambda row: -row[1])[:8]:
            print(f"  head office, {count} times: {reason}")
        for trouble in troubles:
            print(f"WRONG: {trouble}")
        if not troubles:
            print("nothing lost, nothing twice, verify found nothing"
                  + (f"; {late} times a till waited longer than {given.within:g} s" if late else
                     f"; every till served again within {given.within:g} s"))
        sys.exit(1 if troubles else 2 if late else 0)
    finally:
        if chain is not None:
            chain.end()
        server.remove()
        if given.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


main()
