#!/usr/bin/env python3
"""A node's life for a recorder of system calls: everything that is promised is printed as `ACK <id>` when it is promised.

  workload.py MODE BIN DATA WORK

BIN is the tillsync binary, DATA the recorded directory (the node's directory is DATA/node), WORK a scratch directory outside it.
Modes: till (first start, captures, index deleted, kill -9, stop), hub (init, first start, ingest, exports, restart), restore,
rotate, encrypt (these three take DATA/node or WORK/backup as `prepare` left it).
"""
import http.client, json, os, shutil, signal, subprocess, sys, time

MODE, BIN, DATA, WORK = sys.argv[1:5]
NODE = os.path.join(DATA, "node")


def say(*words):
    print(*words, flush=True)


def run(*arguments, check=True):
    done = subprocess.run([BIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode != 0:
        sys.exit(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout


def start(*arguments):
    """Starts a node; returns its process and the fields of its `ready` line."""
    node = subprocess.Popen([BIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    fields = dict(word.split("=", 1) for word in node.stdout.readline().split() if "=" in word)
    return node, fields


def stop(node, how=signal.SIGTERM):
    node.send_signal(how)
    node.wait()


def start_till(dir, *more):
    return start("terminal", "run", "--http", "127.0.0.1:0", "--dir", dir, *more)


def start_hub(dir, listen="127.0.0.1:0"):
    return start("hub", "run", "--listen", listen, "--http", "127.0.0.1:0", "--dir", dir)


def sale(receipt):
    return json.dumps({"kind": "sale", "receipt": receipt, "currency": "GBP",
                       "lines": [{"sku": "A", "quantity": "1", "amount_minor": 100, "tax_minor": 0}],
                       "tenders": [{"type": "cash", "amount_minor": 100}]})


def capture(address, first, last, said=True):
    link = link_to(address)
    for number in range(first, last):
        receipt = f"R-{number}"
        if said:
            say("BEGIN", receipt)
        link.request("POST", "/v1/transactions", sale(receipt), {"content-type": "application/json"})
        answer = link.getresponse()
        answer.read()
        if answer.status not in (200, 201):
            sys.exit(f"{receipt}: {answer.status}")
        if said:
            say("ACK", receipt)


def link_to(address):
    return http.client.HTTPConnection(address, timeout=60)


def status(address):
    link = link_to(address)
    link.request("GET", "/v1/status")
    return json.loads(link.getresponse().read())


def until(holds):
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    sys.exit("it did not happen")


def code(hub_dir, terminal):
    enrolled = run("hub", "enroll", "--dir", hub_dir, "--store", "s", "--terminal", terminal, "--json")
    return json.loads(enrolled)["code"]


def company(dir):
    run("hub", "init", "--dir", dir, "--company", "Shops", "--currency", "GBP", "--json")
    return start_hub(dir)


def till():
    hub, _ = company(os.path.join(WORK, "hub"))
    run("terminal", "join", "--dir", NODE, "--code", code(os.path.join(WORK, "hub"), "till-01"))
    node, fields = start_till(NODE)
    capture(fields["http"], 0, 12)
    stop(node)
    stop(hub)
    node, fields = start_till(NODE)
    capture(fields["http"], 12, 24)
    stop(node, signal.SIGKILL)
    shutil.rmtree(os.path.join(NODE, "index"))
    node, fields = start_till(NODE)
    capture(fields["http"], 24, 32)
    stop(node)


def hub():
    node, fields = company(NODE)
    till_dir = os.path.join(WORK, "till")
    run("terminal", "join", "--dir", till_dir, "--code", code(NODE, "till-01"))
    till, at = start_till(till_dir)
    done = 0
    for turn in range(4):
        capture(at["http"], done, done + 8, said=False)
        until(lambda: status(at["http"])["waiting"]["count"] == 0)
        for number in range(done, done + 8):
            say("ACK", f"R-{number}")
        done += 8
        out = os.path.join(WORK, f"out-{turn}")
        run("export", "--format", "hledger", "--out", out, "--dir", NODE)
        say("ACK", f"export-{turn + 1}")
        if turn == 1:
            stop(node)
            node, _ = start_hub(NODE, fields["quic"])
        if turn == 2:
            stop(node, signal.SIGKILL)
            shutil.rmtree(os.path.join(NODE, "index"))
            node, _ = start_hub(NODE, fields["quic"])
    stop(till)
    stop(node)


def held():
    with open(os.path.join(WORK, "held")) as file:
        return file.read().split()


def restore():
    run("restore", "--from", os.path.join(WORK, "backup"), "--dir", NODE)
    for receipt in held():
        say("ACK", receipt)


def rotate():
    for receipt in held():
        say("ACK", receipt)
    run("key", "rotate", "--dir", NODE, "--key-file", f"{WORK}/key1", "--new-key-file", f"{WORK}/key2")


def encrypt():
    for receipt in held():
        say("ACK", receipt)
    run("key", "encrypt", "--dir", NODE, "--key-file", f"{WORK}/key1")


def prepare():
    """For restore, rotate and encrypt: a till with sales, its backup, keys. Not recorded."""
    hub, _ = company(os.path.join(WORK, "hub"))
    plain = os.path.join(WORK, "plain")
    run("terminal", "join", "--dir", plain, "--code", code(os.path.join(WORK, "hub"), "till-01"))
    node, at = start_till(plain)
    capture(at["http"], 0, 20, said=False)
    stop(node)
    stop(hub)
    with open(os.path.join(WORK, "held"), "w") as file:
        file.write(" ".join(f"R-{number}" for number in range(20)))
    run("backup", "--dir", plain, "--to", os.path.join(WORK, "backup"))
    for key in ("key1", "key2"):
        run("key", "new", f"{WORK}/{key}")
    shutil.rmtree(os.path.join(plain, "index"), ignore_errors=True)
    shutil.copytree(plain, os.path.join(WORK, "sealed"))
    run("key", "encrypt", "--dir", os.path.join(WORK, "sealed"), "--key-file", f"{WORK}/key1")


{"till": till, "hub": hub, "restore": restore, "rotate": rotate, "encrypt": encrypt, "prepare": prepare}[MODE]()
