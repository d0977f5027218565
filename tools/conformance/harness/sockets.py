"""A listening socket whose every connection is served in a thread of its own."""

import socket
import threading


def serve_each(serve):
    """Listens on a free port, calls `serve(connection)` for each connection, and returns the listening socket: closing it
    ends the listening."""
    server = socket.create_server(("127.0.0.1", 0), backlog=256)

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server
