"""Certificate authorities and certificates, made by the openssl program."""

import os
import subprocess


class Authority:
    """A certificate authority in a folder: ca.crt, ca.key and what it issued. Keys are ECDSA P-256."""

    def __init__(self, folder, name):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.crt = self.ca = os.path.join(folder, "ca.crt")
        self.key = os.path.join(folder, "ca.key")
        _openssl("req", "-x509", "-subj", f"/CN={name}", "-days", "3650",
                 "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
                 *_new_key(self.key), "-out", self.crt)

    def issue(self, file, subject, usage, names=()):
        """Issues a certificate and returns the paths of it and of its key.

        subject is in openssl's form, usage is clientAuth or serverAuth, names are like "IP:::1".
        """
        crt = os.path.join(self.folder, file + ".crt")
        key = os.path.join(self.folder, file + ".key")
        extensions = ["-addext", f"extendedKeyUsage={usage}",
                      "-addext", "basicConstraints=critical,CA:FALSE",
                      "-addext", "keyUsage=critical,digitalSignature"]
        if names:
            extensions += ["-addext", "subjectAltName=" + ",".join(names)]
        _openssl("req", "-x509", "-CA", self.crt, "-CAkey", self.key, "-subj", subject,
                 "-days", "365", *extensions, *_new_key(key), "-out", crt)
        return crt, key

    def node(self, name):
        """The certificate and key of a node, made once."""
        paths = tuple(os.path.join(self.folder, name + end) for end in (".crt", ".key"))
        if os.path.exists(paths[0]):
            return paths
        return self.issue(name, f"/O=system:nodes/CN=system:node:{name}", "clientAuth")


def signing_key(path):
    """Makes a key pair for service-account tokens; returns the paths of the two halves."""
    public = path + ".pub"
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    _openssl("ec", "-in", path, "-pubout", "-out", public)
    return path, public


def _new_key(path):
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path]


def _openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]}: {done.stderr.strip()}")
