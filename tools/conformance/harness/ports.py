"""Free TCP ports on loopback, given out so that two servers of one run never share one."""

import socket

_given = set()


def free_ports(count):
    """`count` ports nobody listens on and this process has not handed out before."""
    held, ports = [], []
    while len(ports) < count:
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.bind(("127.0.0.1", 0))
        held.append(s)
        port = s.getsockname()[1]
        if port not in _given:
            _given.add(port)
            ports.append(port)
    for s in held:
        s.close()
    return ports
