#!/usr/bin/env python3
"""A bad line for UDP: takes datagrams of many callers to one address and back, and loses, delays, doubles and so reorders
them as it is told. In place of netem, which not every kernel has.

  relay.py LISTEN_HOST PORT TO_HOST PORT [SEED]

Each line of standard input sets the line of a caller's host: `HOST LOSS DOUBLED DELAY_MS JITTER_MS`. Ends with its input.
"""
import asyncio, random, sys

GOOD = (0.0, 0.0, 0.0, 0.0)


class Relay(asyncio.DatagramProtocol):
    def __init__(self, to, chance):
        self.to, self.chance, self.lines, self.back = to, chance, {}, {}

    def connection_made(self, transport):
        self.transport = transport

    def carry(self, host, send):
        loss, doubled, delay, jitter = self.lines.get(host, GOOD)
        for _ in range(2 if self.chance.random() < doubled else 1):
            if self.chance.random() >= loss:
                after = max(0.0, delay + self.chance.uniform(-jitter, jitter)) / 1000
                asyncio.get_running_loop().call_later(after, send) if after else send()

    def datagram_received(self, data, caller):
        there = self.back.get(caller)
        if there is None:
            there = self.back[caller] = Back(self, caller)
        there.forward(data)


class Back(asyncio.DatagramProtocol):
    """What comes back for one caller, through a socket of its own."""

    def __init__(self, relay, caller):
        self.relay, self.caller, self.transport, self.early = relay, caller, None, []
        loop = asyncio.get_running_loop()
        self.opening = loop.create_task(loop.create_datagram_endpoint(lambda: self, remote_addr=relay.to))

    def connection_made(self, transport):
        self.transport = transport
        for data in self.early:
            self.forward(data)

    def forward(self, data):
        if self.transport is None:
            self.early.append(data)
        else:
            self.relay.carry(self.caller[0], lambda: self.transport.sendto(data))

    def datagram_received(self, data, _):
        self.relay.carry(self.caller[0], lambda: self.relay.transport.sendto(data, self.caller))

    def error_received(self, _):
        pass  # The hub is not there: datagrams are lost.


async def main():
    host, port, to_host, to_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    chance = random.Random(int(sys.argv[5]) if len(sys.argv) > 5 else 1)
    loop = asyncio.get_running_loop()
    relay = Relay((to_host, to_port), chance)
    await loop.create_datagram_endpoint(lambda: relay, local_addr=(host, port))
    print("ready", flush=True)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := (await orders.readline()).decode():
        caller, *figures = line.split()
        relay.lines[caller] = tuple(map(float, figures))


asyncio.run(main())
