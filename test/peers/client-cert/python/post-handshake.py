"""A TLS 1.3 server that asks for a certificate behind the handshake, whenever it is told to.

post-handshake.py CERT KEY CA: prints its port. A client's line 'ask' makes it ask; it then says who the client is, by
the common name of its certificate, or 'nobody'. Any other line comes back.
"""

import socket
import ssl
import sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.load_verify_locations(sys.argv[3])
context.verify_mode = ssl.CERT_OPTIONAL
context.post_handshake_auth = True

listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
connection = context.wrap_socket(listener.accept()[0], server_side=True)


def line():
    text = b""
    while not text.endswith(b"\n"):
        more = connection.recv(1)
        if not more:
            return None
        text += more
    return text


while (text := line()) is not None:
    if text == b"ask\n":
        try:
            connection.verify_client_post_handshake()
        except ssl.SSLError as error:
            connection.sendall(f"not offered: {error.reason}\n".encode())
            continue
        # The request leaves with this, and the answer comes with the next line.
        connection.sendall(b"asking\n")
        line()
        subject = connection.getpeercert() or {"subject": ((("commonName", "nobody"),),)}
        names = dict(pair for part in subject["subject"] for pair in part)
        connection.sendall(f"{names['commonName']}\n".encode())
    else:
        connection.sendall(text)
connection.unwrap()
