"""What people do while hubs die: cashiers ring at every till and insist until they are answered; head office adds people, sets
policies and cuts exports at whichever hub it finds."""
import http.client, json, random, threading, time
from collections import namedtuple
from chain import Api

# A basket that a till has acknowledged.
Known = namedtuple("Known", "id terminal kind amount seq")
# A till that does not answer for so long is rung again, the same basket.
PATIENCE_SECONDS = 20


def basket(kind, receipt, amount, of=None):
    line = {"sku": f"A-{amount}", "quantity": "1", "amount_minor": amount, "tax_minor": amount // 6}
    draft = {"kind": kind, "receipt": receipt, "currency": "GBP", "lines": [line],
             "tenders": [{"type": "cash", "amount_minor": amount}]}
    if of is not None:
        draft["original_receipt"] = of
    if kind == "refund":
        draft["reason"], line["original_line"] = "damaged", 1
    return draft


class Shelf:
    """Sales of a store that may still be reversed, once."""

    def __init__(self):
        self.lock, self.sales = threading.Lock(), []

    def put(self, receipt, amount):
        with self.lock:
            self.sales.append((receipt, amount))

    def take(self, chance):
        with self.lock:
            return self.sales.pop(chance.randrange(len(self.sales))) if self.sales else None


class Cashier:
    """Rings at one till, about `pace` baskets a second, each until it is answered."""

    def __init__(self, till, shelf, seed, pace):
        self.till, self.shelf, self.pace = till, shelf, pace
        self.chance = random.Random(seed)
        self.known, self.rung_again, self.number = {}, 0, 0
        self.heads = []  # (moment, seq) of each answer
        self.own = []
        self.going = True

    def run(self):
        api = Api(self.till, PATIENCE_SECONDS)
        while self.going:
            self.ring(api, *self.next_basket())
            time.sleep(self.chance.uniform(0.5, 1.5) / self.pace)

    def next_basket(self):
        self.number += 1
        receipt, amount = f"{self.till.name}-{self.number}", self.chance.randint(100, 4_000)
        what = self.chance.random()
        if what < 0.08 and self.own:
            of, amount = self.own.pop()
            return "void", receipt, amount, of
        if what < 0.16 and (found := self.shelf.take(self.chance)):
            of, amount = found
            return "refund", receipt, amount, of
        return "sale", receipt, amount, None

    def ring(self, api, kind, receipt, amount, of):
        body = json.dumps(basket(kind, receipt, amount, of))
        headers = {"content-type": "application/json", "idempotency-key": receipt}
        while True:
            try:
                status, answer = api.send("POST", "/v1/transactions", body, headers)
            except (OSError, http.client.HTTPException):
                # Killed, or being started: the same basket again.
                self.rung_again += 1
                time.sleep(0.2)
                continue
            if status == 503:
                time.sleep(0.2)
                continue
            if status not in (200, 201):
                raise RuntimeError(f"{self.till.name} refused {receipt}: {status} {answer[:500]}")
            break
        said = json.loads(answer)
        self.known[receipt] = Known(said["id"], self.till.name, kind, amount, said["seq"])
        self.heads.append((time.monotonic(), said["seq"]))
        if kind == "sale":
            # The newest is voided at this till, any other may be refunded at any till of the store.
            self.own.append((receipt, amount))
            if len(self.own) > 3:
                self.shelf.put(*self.own.pop(0))

    def first_after(self, moment):
        """The number of the first record acknowledged after a moment; None: there is none yet."""
        heads = self.heads
        for at in range(len(heads) - 1, -1, -1):
            if heads[at][0] <= moment:
                return heads[at + 1][1] if at + 1 < len(heads) else None
        return heads[0][1] if heads else None

    def drawer(self):
        sign = {"sale": 1, "refund": -1, "void": -1}
        return sum(sign[basket.kind] * basket.amount for basket in self.known.values())


class HeadOffice:
    """Adds people, sets policies, cuts exports. What was answered must hold at the end; what was not may."""

    def __init__(self, chain, seed):
        self.chain, self.chance, self.going = chain, random.Random(seed), True
        self.people, self.exports, self.limits = {}, {}, {}
        self.asked, self.refused, self.reasons = 0, 0, {}

    def run(self):
        number = 0
        while self.going:
            time.sleep(self.chance.uniform(1, 5))
            number, hub = number + 1, self.chance.choice(self.chain.hubs)
            if not hub.is_there():
                continue
            what = self.chance.choice((self.add_person, self.set_policy, self.cut_export))
            self.asked += 1
            what(hub, number)

    def call(self, hub, *arguments):
        """The answer; None: the hub gave none, or refused for now."""
        done = hub.call(*arguments, "--json", "--dir", hub.dir, check=False)
        if done.returncode != 0:
            self.refused += 1
            reason = (done.stderr or done.stdout).strip().splitlines()
            reason = reason[-1][:160] if reason else f"exit code {done.returncode}"
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            return None
        return json.loads(done.stdout)

    def add_person(self, hub, number):
        name = f"person-{number}"
        if self.call(hub, "hub", "people", "add", "--name", name, "--role", "viewer") is not None:
            self.people[name] = hub.name

    def set_policy(self, hub, number):
        store = self.chance.choice(sorted(set(self.chain.store_of.values())))
        limit = 10_000 + number
        answered, tried = self.limits.get(store, (None, []))
        said = self.call(hub, "policy", "set", "--store", store, f"refund_limit_minor={limit}")
        # An unanswered one may have been recorded, before every later one.
        self.limits[store] = (limit, []) if said is not None else (answered, [*tried, limit])

    def cut_export(self, hub, number):
        said = self.call(hub, "export", "--format", "csv")
        if said is not None:
            if said["number"] in self.exports:
                raise RuntimeError(f"export batch {said['number']} was cut twice")
            self.exports[said["number"]] = said["hash"]
