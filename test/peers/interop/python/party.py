"""One end of a TLS connection, played by Python's ssl and driven line by line.

    python3 party.py client|server 1.2|1.3 CERT KEY [PORT]

It adds nothing of its own to ssl: each command is the call that it is named after, and blocks until
that call has returned. Commands come on stdin, one per line, so several may wait there: that is how
plaintext is made to follow a close_notify at once. Each prints one JSON line:

    {"op": "read", "text": "..."}        or, when the call raised,
    {"op": "read", "error": "SSLEOFError: ..."}

    handshake       connect or accept, then do_handshake
    write TEXT      SSLSocket.sendall
    read N          SSLSocket.recv until N bytes are there; "end" where recv gave b''
    unwrap          SSLSocket.unwrap: sends close_notify, and waits for the peer's
    plain-write T   sendall on what unwrap returned
    plain-read N    recv on what unwrap returned, until N bytes are there
    wrap            TLS again, in the same role, over what unwrap returned
    close           closes the socket

A server prints {"event": "listening", "port": N} first of all. End of stdin ends the program.
"""

import json
import socket
import ssl
import sys


def show(**fields):
    print(json.dumps(fields), flush=True)


def receive(sock, length):
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            return data.decode() + "end"
        data += more
    return data.decode()


class Party:
    def __init__(self, role, version, cert, key, port):
        self.server = role == "server"
        self.port = port
        self.context = ssl.SSLContext(
            ssl.PROTOCOL_TLS_SERVER if self.server else ssl.PROTOCOL_TLS_CLIENT
        )
        number = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
        self.context.minimum_version = self.context.maximum_version = number
        if self.server:
            self.context.load_cert_chain(cert, key)
            self.listener = socket.create_server(("127.0.0.1", 0))
            show(event="listening", port=self.listener.getsockname()[1])
        else:
            self.context.load_verify_locations(cert)
        self.sock = None

    def run(self, op, rest):
        if op == "handshake":
            if self.server:
                self.sock, _ = self.listener.accept()
                self.listener.close()
            else:
                self.sock = socket.create_connection(("127.0.0.1", self.port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self.run("wrap", "")
        if op == "wrap":
            name = None if self.server else "localhost"
            self.sock = self.context.wrap_socket(
                self.sock, server_side=self.server, server_hostname=name
            )
            return self.sock.version()
        if op in ("write", "plain-write"):
            return self.sock.sendall(rest.encode())
        if op in ("read", "plain-read"):
            return receive(self.sock, int(rest))
        if op == "unwrap":
            self.sock = self.sock.unwrap()
            return None
        if op == "close":
            return self.sock.close()
        raise ValueError(f"unknown command: {op}")


def main():
    role, version, cert, key, *port = sys.argv[1:]
    party = Party(role, version, cert, key, int(port[0]) if port else 0)
    for line in sys.stdin:
        op, _, rest = line.rstrip("\n").partition(" ")
        try:
            show(op=op, text=party.run(op, rest))
        except (OSError, ValueError) as error:
            show(op=op, error=f"{type(error).__name__}: {error}")


main()
