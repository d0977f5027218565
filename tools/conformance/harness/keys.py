"""Certificates and keys for the parity table, made anew for each run."""

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def ca_pem():
    return trustme.CA().cert_pem.bytes().decode()


def cert_pair():
    """A certificate and its key."""
    made = trustme.CA().issue_cert("parity.example")
    return made.cert_chain_pems[0].bytes().decode(), made.private_key_pem.bytes().decode()


def public_key():
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
