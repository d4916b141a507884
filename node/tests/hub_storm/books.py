"""What must hold when the storm is over: every receipt that a till acknowledged is in the hubs' books exactly once, and the
tables, the API of every hub and the tills' own sums say the same."""
import json, time
from collections import Counter
from chain import Api

# Cases that would mean that a log was written twice or has a hole.
NEVER = ("CLONED_TERMINAL", "SEQUENCE_GAP")
PAGE = 1_000

# Each of these finds nothing in tables that are in order.
EMPTY = (
    ("a receipt is there once", "SELECT receipt FROM ledger.receipts GROUP BY receipt HAVING count(*) <> 1"),
    ("a number of a till's log is there once", "SELECT terminal, incarnation, seq FROM ledger.receipts "
     "GROUP BY terminal, incarnation, seq HAVING count(*) <> 1"),
    ("a till's log has no holes", "SELECT terminal, incarnation FROM ledger.receipts "
     "GROUP BY terminal, incarnation HAVING count(*) <> max(seq) OR min(seq) <> 1"),
    ("a posting is in the balances once", "SELECT store, account, currency, sum(amount_minor) FROM ledger.postings "
     "GROUP BY store, account, currency HAVING sum(amount_minor) <> 0 "
     "EXCEPT SELECT store, account, currency, amount_minor FROM ledger.balances"),
    ("the balances rest on postings", "SELECT store, account, currency, amount_minor FROM ledger.balances EXCEPT "
     "SELECT store, account, currency, sum(amount_minor) FROM ledger.postings GROUP BY store, account, currency"),
    ("every entry balances", "SELECT store, number, currency FROM ledger.postings "
     "GROUP BY store, number, currency HAVING sum(amount_minor) <> 0"),
    ("numbers of the journal are gapless", "SELECT store FROM ledger.journal_entries GROUP BY store "
     "HAVING count(*) <> max(number) OR min(number) <> 1"),
    ("numbers of the feed are gapless", "SELECT hub FROM ledger.changes GROUP BY hub "
     "HAVING count(*) <> max(seq) OR min(seq) <> 1"),
    ("the feed tells each entry once", "SELECT store, subject FROM ledger.changes WHERE topic = 'journal_entry' "
     "GROUP BY store, subject HAVING count(*) <> 1"),
    ("the feed tells every entry", "SELECT store, number::text FROM ledger.journal_entries "
     "EXCEPT SELECT store, subject FROM ledger.changes WHERE topic = 'journal_entry'"),
    ("the feed tells each receipt once", "SELECT store, subject FROM ledger.changes WHERE topic = 'receipt' "
     "GROUP BY store, subject HAVING count(*) <> 1"),
    ("exports of a store follow each other", "SELECT store FROM (SELECT store, first_number, "
     "lag(last_number, 1, 0::bigint) OVER (PARTITION BY store ORDER BY number) AS before FROM ledger.exports) AS ranges "
     "WHERE first_number <> before + 1"),
    ("entries of a log have no holes", "SELECT encode(l.log_id, 'hex') FROM tillsync.log l "
     "JOIN (SELECT log_id, count(*) AS n, max(position) AS last, sum(length(bytes)) FROM tillsync.entry GROUP BY log_id) e "
     "USING (log_id) WHERE e.n <> l.next_position OR e.last <> l.next_position - 1"),
)


class Books:
    def __init__(self, chain, server, cashiers, office, troubles):
        self.chain, self.server, self.cashiers, self.office = chain, server, cashiers, office
        self.troubles = troubles
        self.known = {receipt: basket for cashier in cashiers.values() for receipt, basket in cashier.known.items()}

    def wrong(self, what):
        self.troubles.append(what)
        print(f"WRONG: {what}")

    def settle(self, seconds=240):
        """Until every till has given away what it had, and the tables have all of it."""
        end = time.monotonic() + seconds
        waits = {till.name: Api(till, 10) for till in self.chain.tills}
        while waits:
            for name in list(waits):
                try:
                    status = waits[name].json("/v1/status")
                except Exception as error:  # noqa: BLE001 (asked again)
                    status = {"error": repr(error)}
                if status.get("online") and status["waiting"]["count"] == 0 \
                        and status["at_hub_through"]["seq"] == status["head_seq"]:
                    del waits[name]
                elif time.monotonic() > end:
                    return self.wrong(f"{name} still waits after {seconds} s: {json.dumps(status)[:600]}")
            time.sleep(0.1)
        while time.monotonic() < end:
            if int(self.server.sql("SELECT count(*) FROM ledger.receipts")) >= len(self.known):
                break
            time.sleep(0.2)
        # Entries and cases follow their receipts.
        time.sleep(3)

    def check(self):
        for claim, query in EMPTY:
            found = self.server.sql(query)
            if found:
                self.wrong(f"{claim}: not so for {found.splitlines()[:5]}")
        self.check_receipts()
        for hub in self.chain.hubs:
            self.check_hub(hub)
        self.check_journals()
        self.check_cases()
        self.check_office()
        self.check_lives()

    def check_receipts(self):
        rows = self.server.rows("SELECT receipt, record_id, terminal, kind, total_minor, store, custody FROM ledger.receipts")
        there = {row[0]: row for row in rows}
        lost = sorted(set(self.known) - set(there))
        strange = sorted(set(there) - set(self.known))
        if lost:
            self.wrong(f"{len(lost)} acknowledged receipts are not in the books: {lost[:5]}")
        if strange:
            self.wrong(f"{len(strange)} receipts in the books were never acknowledged: {strange[:5]}")
        for receipt in set(self.known) & set(there):
            basket, (_, record, terminal, kind, total, store, _) = self.known[receipt], there[receipt]
            said = (basket.id, basket.terminal, basket.kind, basket.amount, self.chain.store_of[basket.terminal])
            if said != (record, terminal, kind, abs(int(total)), store):
                self.wrong(f"{receipt} was acknowledged as {said} and is {there[receipt]}")
        self.custody = Counter(row[6] for row in rows)

    def check_hub(self, hub):
        ask = lambda *arguments: self.chain.ask(hub, *arguments)
        records = sum(store["records"] for store in ask("stores"))
        if records != len(self.known):
            self.wrong(f"{hub.name} counts {records} records of {len(self.known)}")
        trial = ask("ledger", "trial-balance")
        if any(row["difference_minor"] for row in trial["currencies"].values()):
            self.wrong(f"{hub.name}: the trial balance differs: {trial}")
        balances = ask("ledger", "balances")["balances"]
        for name, cashier in self.cashiers.items():
            drawer = balances.get(f"Assets:Cash:Drawer:{name} GBP", 0)
            if drawer != cashier.drawer():
                self.wrong(f"{hub.name}: the drawer of {name} holds {drawer}, {cashier.drawer()} were taken")
        tables = {f"{account} {currency}": int(amount) for account, currency, amount in self.server.rows(
            "SELECT account, currency, sum(amount_minor) FROM ledger.balances GROUP BY 1, 2 HAVING sum(amount_minor) <> 0")}
        if tables != {account: minor for account, minor in balances.items() if minor}:
            self.wrong(f"{hub.name}: its balances are not those of the tables")

    def check_journals(self):
        """The journal of each store by the API of each hub, page by page, against the tables."""
        for hub in self.chain.hubs:
            with open(f"{hub.dir}/run.json") as file:
                token = json.load(file)["token"]
            api, headers = Api(hub, 60), {"authorization": f"Bearer {token}"}
            for store in sorted(set(self.chain.store_of.values())):
                rows = self.server.rows("SELECT number, record_id, hash FROM ledger.journal_entries "
                                        f"WHERE store = '{store}' ORDER BY number")
                entries, after = [], 0
                while True:
                    page = api.json(f"/v1/ledger/journal?store={store}&after={after}&limit={PAGE}", headers)
                    entries += page["entries"]
                    if page["next"] is None or not page["entries"]:
                        break
                    after = page["next"]
                told = [entry["number"] for entry in entries]
                if told != list(range(1, len(told) + 1)):
                    self.wrong(f"{hub.name}: numbers of the journal of {store} have gaps")
                if [(str(entry["number"]), entry["hash"]) for entry in entries] != [(row[0], row[2]) for row in rows]:
                    self.wrong(f"{hub.name}: the journal of {store} has {len(entries)} entries, the tables {len(rows)}, "
                               "or not the same")

    def check_cases(self):
        cases = self.chain.ask(self.chain.hubs[0], "cases")
        self.cases = Counter(case["type"] for case in cases)
        tables = Counter(row[0] for row in self.server.rows("SELECT type FROM ledger.cases"))
        for never in NEVER:
            if self.cases[never] or tables[never]:
                self.wrong(f"there are cases of {never}: {[case for case in cases if case['type'] == never][:2]}")
        if self.cases != tables:
            self.wrong(f"cases by the API: {dict(self.cases)}; in the tables: {dict(tables)}")

    def check_office(self):
        hub, office = self.chain.hubs[0], self.office
        people = {person["name"] for person in self.chain.ask(hub, "hub", "people", "list")}
        if gone := sorted(set(office.people) - people):
            self.wrong(f"people who were added are not there: {gone}")
        batches = self.chain.ask(hub, "export", "--list")
        if [batch["number"] for batch in batches] != list(range(1, len(batches) + 1)):
            self.wrong("numbers of export batches have gaps")
        hashes = {batch["number"]: batch["hash"] for batch in batches}
        for number, hash in office.exports.items():
            if hashes.get(number) != hash:
                self.wrong(f"export batch {number} was given as {hash} and is {hashes.get(number)}")
        for store, (answered, tried) in office.limits.items():
            limit = self.chain.ask(hub, "policy", "get", "--store", store)["settings"]["refund_limit_minor"]
            if answered is not None and str(limit).strip('"') not in map(str, [answered, *tried]):
                self.wrong(f"the policy of {store} was set to {answered} (and perhaps {tried}) and is {limit}")

    def check_lives(self):
        """No store's task died of a panic, and nobody said anything of one."""
        for hub in self.chain.hubs:
            events = self.chain.ask(hub, "audit")
            if restarted := [event for event in events if event.get("event") == "restarted"]:
                self.wrong(f"{hub.name}: tasks began anew: {restarted[:2]}")
        for node in [*self.chain.hubs, *self.chain.tills]:
            if "panicked" in (said := node.said()):
                self.wrong(f"{node.name} panicked: {said[said.index('panicked') - 100:][:800]}")
