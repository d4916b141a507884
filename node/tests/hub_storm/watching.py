"""How long tills are without a hub. Each trouble opens a watch over the tills that it concerns: a till is served again when
a record that it acknowledged after the trouble began is at a hub, by the till's own word (`at_hub_through`)."""
import http.client, json, threading, time
from chain import Api, STATUS_SECONDS

# The watches that the promise is about: a hub is gone, another one and the database are there.
JUDGED = ("kill", "pause", "stop")


class Watch:
    def __init__(self, kind, hub, tills, since):
        self.kind, self.hub, self.since, self.waiting = kind, hub, since, set(tills)
        self.seconds, self.beside = {}, {}

    def served(self, till, moment):
        self.waiting.discard(till)
        self.seconds[till] = moment - self.since

    def disturbed(self, till, by):
        """Something else happened to it first: its time is not this trouble's."""
        self.waiting.discard(till)
        self.beside[till] = by


class Watching:
    def __init__(self, tills, cashiers, began):
        self.tills, self.cashiers = {till.name: till for till in tills}, cashiers
        self.apis = {till.name: Api(till, STATUS_SECONDS) for till in tills}
        self.began = began
        self.lock, self.open, self.all, self.going = threading.Lock(), [], [], True

    def begin(self, kind, hub, tills, since):
        """A trouble. What an earlier death has left without a hub is of this one from now on; after anything worse than a
        death, no till's time is an earlier trouble's."""
        tills = set(tills)
        with self.lock:
            for watch in self.open:
                if kind not in JUDGED:
                    for till in list(watch.waiting):
                        watch.disturbed(till, kind)
                elif watch.kind in JUDGED:
                    tills |= watch.waiting
                    for till in list(watch.waiting):
                        watch.disturbed(till, kind)
                else:
                    tills -= watch.waiting
            watch = Watch(kind, hub, tills, since)
            self.open.append(watch)
            self.all.append(watch)

    def till_died(self, till):
        with self.lock:
            for watch in self.open:
                if till in watch.waiting:
                    watch.disturbed(till, "its own death")

    def run(self):
        while self.going:
            with self.lock:
                self.open = [watch for watch in self.open if watch.waiting]
                wanted = set().union(*(watch.waiting for watch in self.open)) if self.open else set()
            for till in sorted(wanted):
                self.look(till)
            time.sleep(0.05)

    def look(self, till):
        try:
            status = self.apis[till].json("/v1/status")
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return
        now, through = time.monotonic(), status["at_hub_through"]["seq"]
        with self.lock:
            for watch in self.open:
                first = self.cashiers[till].first_after(watch.since)
                if till in watch.waiting and first is not None and through >= first and status["online"]:
                    watch.served(till, now)

    def report(self, within):
        """Prints how long it took; gives how many judged tills took longer than `within` seconds."""
        print("\n| trouble | times | tills | median s | 95 % | worst | beside another trouble | not served |")
        print("|---|---|---|---|---|---|---|---|")
        late = 0
        for kind in (*JUDGED, "together", "database", "cut"):
            watches = [watch for watch in self.all if watch.kind == kind]
            if not watches:
                continue
            took = sorted(seconds for watch in watches for seconds in watch.seconds.values())
            beside, never = sum(len(watch.beside) for watch in watches), sum(len(watch.waiting) for watch in watches)
            at = lambda part: f"{took[min(len(took) - 1, int(len(took) * part))]:.1f}" if took else "-"
            print(f"| {kind} | {len(watches)} | {len(took)} | {at(0.5)} | {at(0.95)} | {at(1)} | {beside} | {never} |")
            if kind in JUDGED:
                late += sum(seconds > within for seconds in took) + never
        judged = [(seconds, watch, till) for watch in self.all if watch.kind in JUDGED
                  for till, seconds in watch.seconds.items()]
        counts = {}
        for seconds, *_ in judged:
            counts[int(seconds)] = counts.get(int(seconds), 0) + 1
        print("\nseconds from a hub's death, pause or stop until a later record is at another: "
              + ", ".join(f"{second}-{second + 1}: {counts[second]}" for second in sorted(counts)))
        for seconds, watch, till in sorted(judged, key=lambda row: -row[0])[:5]:
            print(f"  {seconds:5.1f} s  {till} after the {watch.kind} of {watch.hub}, {watch.since - self.began:.1f} s into the storm")
        return late
