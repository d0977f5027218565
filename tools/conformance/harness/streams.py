"""Services and clients for what the gateway carries without a look at what is in it."""

import json
import socket
import ssl

import trustme

from harness.sockets import serve_each


def answer_each(name):
    """A TCP service that sends back what it gets, `name` before each piece."""

    def serve(connection):
        with connection:
            try:
                while piece := connection.recv(65536):
                    connection.sendall(name + piece)
            except OSError:
                """The client left."""

    return serve_each(serve)


def tls_echo(authority, name):
    """A TLS service with a certificate of `name`, which sends back what it gets behind its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def serve(connection):
        try:
            with context.wrap_socket(connection, server_side=True) as peer:
                while piece := peer.recv(65536):
                    peer.sendall(name.encode() + b" " + piece)
        except OSError:
            """The client left, or does not trust us."""

    return serve_each(serve)


def port_of(listening):
    return listening.getsockname()[1]


def service(name, port, protocol="tcp", routes=(), **more):
    return {"name": name, "protocol": protocol, "host": "127.0.0.1", "port": port, "routes": list(routes), **more}


def route(name, protocols, **more):
    return {"name": name, "protocols": list(protocols), **more}


def to(port):
    """What a route matches that takes all connections to a port of ours."""
    return {"destinations": [{"port": port}]}


def certificate(folder, authority, *names):
    """Files of a certificate, for a listener's `tls`."""
    made = authority.issue_cert(*names)
    made.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    return {"cert": str(folder / "both.pem"), "key": str(folder / "both.pem")}


def trusting(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def connect(port, timeout_s=10):
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def ask(peer, what):
    """Sends something and returns as many bytes as came back at once, none if it was closed."""
    try:
        peer.sendall(what)
        return peer.recv(65536)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def is_closed(peer):
    """Whether the other side closes, without having said anything."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def lines(server):
    """The access log so far."""
    return [json.loads(line) for line in (server.folder / "stdout.log").read_text().splitlines()]
