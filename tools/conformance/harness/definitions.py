"""The users, vhosts, permissions and objects every AMQP test relies on, in the shape of a RabbitMQ definitions.json.

The same document is given to our server (under `broker.definitions`) and to the oracle (`load_definitions`), so a test
that passes against one sees the same world in the other.

The names given to the user `limited` say what it may do: a resource called `cw-x` may be configured and written, `r-x`
only read.
"""

import base64
import hashlib

VHOST = "tenant"
IMPERSONATOR = "actor"


def password_hash(password, salt=b"\x01\x02\x03\x04"):
    """rabbit_password_hashing_sha256: base64(salt || sha256(salt || password))."""
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()


def user(name, tags=()):
    """A user whose password is `<name>-pw` (guest keeps its well-known one)."""
    return {
        "name": name,
        "password_hash": password_hash(password_of(name)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(tags),
        "limits": {},
    }


def password_of(name):
    return "guest" if name == "guest" else f"{name}-pw"


def permission(name, vhost, configure=".*", write=".*", read=".*"):
    return {"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read}


def policy(name, definition):
    """A policy for the queues whose names begin with its own and a dot."""
    return {"vhost": "/", "name": name, "pattern": rf"^{name}\.", "apply-to": "queues", "priority": 0,
            "definition": definition}


def definitions():
    return {
        "users": [
            user("guest", ["administrator"]),
            user("full"),
            user("limited"),
            user("nobody"),
            user("blank"),
            user(IMPERSONATOR, ["impersonator"]),
        ],
        "vhosts": [{"name": "/"}, {"name": VHOST}],
        "permissions": [
            permission("guest", "/"),
            permission("guest", VHOST),
            permission("full", "/"),
            permission("full", VHOST),
            permission(IMPERSONATOR, "/"),
            permission("blank", "/", "", "", ""),
            permission("limited", "/", r"^cw?r?-", r"^c?wr?-", r"^c?w?r-"),
        ],
        "policies": [
            policy("short", {"max-length": 2}),
            policy("refusing", {"max-length": 3, "overflow": "reject-publish"}),
            policy("capped", {"max-length": 5}),
            policy("counted", {"delivery-limit": 1, "max-length": 2}),
        ],
        "parameters": [
            {"component": "operator_policy", "vhost": "/", "name": "capped",
             "value": {"pattern": r"^capped\.", "apply-to": "queues", "priority": 0,
                       "definition": {"max-length-bytes": 4, "max-length": 3}}},
        ],
        "queues": [
            {"name": "defined.q", "vhost": "/", "durable": True, "auto_delete": False,
             "arguments": {"x-max-priority": 4}},
            {"name": "defined.q", "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": {}},
        ],
        "exchanges": [
            {"name": "defined.x", "vhost": "/", "type": "topic", "durable": True, "auto_delete": False,
             "internal": False, "arguments": {}},
        ],
        "bindings": [
            {"source": "defined.x", "vhost": "/", "destination": "defined.q", "destination_type": "queue",
             "routing_key": "made.by.*", "arguments": {}},
        ],
    }
