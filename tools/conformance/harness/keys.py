"""Certificates and keys, made anew for each run."""

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def ca_pem():
    return trustme.CA().cert_pem.bytes().decode()


def cert_pair():
    """A certificate and its key."""
    made = trustme.CA().issue_cert("parity.example")
    return made.cert_chain_pems[0].bytes().decode(), made.private_key_pem.bytes().decode()


def tls_files(folder, name="localhost"):
    """A certificate of `name` and its key as files of `folder`: the value of a listener's `tls`."""
    made = trustme.CA().issue_cert(name)
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    return {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}


def public_key():
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
