"""Certificates by the openssl command: an authority of the edges, the hub's certificate, those of single nodes."""

import pathlib
import shutil
import subprocess

DAYS = "3650"


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == 0, f"openssl {arguments}: {done.stderr}"
    return done.stdout


class Authority:
    """ca.crt and ca.key in `folder`, where edgesim finds them too."""

    def __init__(self, folder, name="lab-edges"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.key = self.folder / "ca.crt", self.folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.ca, "-days", DAYS, "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def _issue(self, stem, subject, extensions, days=DAYS):
        key, request, certificate, extra = (self.folder / f"{stem}.{end}"
                                            for end in ("key", "csr", "crt", "ext"))
        extra.write_text("".join(f"{line}\n" for line in extensions))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request, "-subj", subject)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key,
                "-CAcreateserial", "-out", certificate, "-days", days, "-extfile", extra)
        return certificate, key

    def server(self, stem="server"):
        """Another call with the same stem replaces the certificate, key included."""
        return self._issue(stem, f"/CN={stem}", ["subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost",
                                                 "extendedKeyUsage=serverAuth"])

    def node(self, node, subject=None, usage="clientAuth", stem=None):
        """(certificate, key) of a node, made once."""
        stem = stem or f"node-{node}"
        if (self.folder / f"{stem}.crt").exists():
            return self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        return self._issue(stem, subject or f"/O=system:nodes/CN=system:node:{node}",
                           [f"extendedKeyUsage={usage}"])

    def copy_server(self, stem, to_certificate, to_key):
        """As an operator rotates: the files' names stay, what they hold changes."""
        shutil.copy(self.folder / f"{stem}.crt", to_certificate)
        shutil.copy(self.folder / f"{stem}.key", to_key)
