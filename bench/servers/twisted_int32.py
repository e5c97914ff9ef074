"""Twisted's Int32StringReceiver: a call for each message, and a write for each answer."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import Int32StringReceiver


class Echo(Int32StringReceiver):
    def connectionMade(self) -> None:  # noqa: N802 -- the names are Twisted's
        self.transport.setTcpNoDelay(True)

    def stringReceived(self, string: bytes) -> None:  # noqa: N802
        self.sendString(string)


class Broadcast(Echo):
    everyone: set[Broadcast] = set()  # noqa: RUF012 -- one room

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()
        self.everyone.add(self)

    def connectionLost(self, reason: object = None) -> None:  # noqa: N802
        self.everyone.discard(self)

    def stringReceived(self, string: bytes) -> None:  # noqa: N802
        for receiver in self.everyone:
            if receiver is not self:
                receiver.sendString(string)


factory = Factory.forProtocol(Broadcast if sys.argv[1] == "broadcast" else Echo)
port = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
