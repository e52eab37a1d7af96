"""The examples in deploy/ are accepted by the balancers they are for."""

import re
import shutil
import subprocess

import pytest

from lab.processes import ROOT, free_port

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name):
    found = shutil.which(name, path=PATH)
    assert found, f"{name} is not installed: scripts/deps.sh test"
    return found


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def haproxy_accepts(text, folder):
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return run(program("haproxy"), "-c", "-f", path)


@pytest.mark.parametrize("backend", ["edges_leastconn", "edges_agent", "edges_proxy_v2"])
def test_haproxy(tmp_path, backend):
    text = (ROOT / "deploy/haproxy.cfg").read_text()
    assert f"backend {backend}\n" in text
    done = haproxy_accepts(text.replace("default_backend edges_leastconn",
                                        f"default_backend {backend}"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr


def test_haproxy_would_complain(tmp_path):
    text = (ROOT / "deploy/haproxy.cfg").read_text()
    assert haproxy_accepts(text.replace("leastconn", "nonsense"), tmp_path).returncode != 0


def nginx_accepts(text, folder):
    """As it is, but for ports, log and pid: a test binds nothing that others could want."""
    text = re.sub(r"listen \d+", lambda _: f"listen 127.0.0.1:{free_port()}", text)
    text = text.replace("/var/log/nginx/error.log", "stderr").replace("/run/", f"{folder}/")
    text = text.replace("modules/ngx_stream", "/usr/lib/nginx/modules/ngx_stream")
    path = folder / "nginx.conf"
    path.write_text(text)
    return run(program("nginx"), "-t", "-p", folder, "-e", "stderr", "-c", path)


def test_nginx(tmp_path):
    done = nginx_accepts((ROOT / "deploy/nginx.conf").read_text(), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr, done.stderr


def test_nginx_would_complain(tmp_path):
    text = (ROOT / "deploy/nginx.conf").read_text()
    assert nginx_accepts(text.replace("least_conn", "nonsense"), tmp_path).returncode != 0
