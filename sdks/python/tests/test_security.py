"""Nodes that demand a login, and nodes that speak TLS."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import amrita
from amrita import testing


class Logins(unittest.TestCase):
    def test_who_has_no_token_is_told_so_and_who_logs_in_is_let_in(self) -> None:
        with testing.cluster(1, flags=["--auth"], wait=False) as cluster:
            file = cluster.nodes[0].sandbox / "first-login"
            testing.wait_for("the first admin", lambda: file.exists() and file.read_text().strip())
            with cluster.client() as stranger:
                with self.assertRaises(amrita.LoginNeeded) as caught:
                    stranger.create("/core/examples", {"name": "x"})
                self.assertEqual(caught.exception.outcome, "notApplied")
                with self.assertRaises(amrita.LoginNeeded):
                    stranger.login("admin", "wrong")
            with cluster.client() as admin:

                def login() -> str:
                    return admin.login("admin", file.read_text().strip())

                token = testing.wait_for("a login", login)
                admin.create("/core/examples", {"name": "x"}, name="x")
            with cluster.client(token=token) as program:
                self.assertEqual(program.get("/core/examples/x").value["name"], "x")
                who = program.request("GET", "/core/authn/whoami").body
                self.assertIn("admin", str(who))


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificates, and is not there")
class Tls(unittest.TestCase):
    def test_only_the_named_authority_is_believed(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        here = Path(folder.name)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        for name in ("ca", "other"):
            files = ("-keyout", f"{here}/{name}-key.pem", "-out", f"{here}/{name}.pem")
            run("openssl", "req", "-x509", *key, "-subj", f"/CN={name}", *files)
        signed = ("-CA", f"{here}/ca.pem", "-CAkey", f"{here}/ca-key.pem")
        extra = ("-addext", "subjectAltName=IP:127.0.0.1")
        extra += ("-addext", "basicConstraints=critical,CA:FALSE")
        for name in ("n1", "n2", "n3"):
            files = ("-keyout", f"{here}/{name}-key.pem", "-out", f"{here}/{name}.pem")
            run("openssl", "req", "-x509", *key, "-subj", f"/CN={name}", *extra, *signed, *files)
        flags = ["--insecure", "--tls-cert", f"{here}/{{node}}.pem"]
        flags += ["--tls-key", f"{here}/{{node}}-key.pem", "--tls-client-ca", f"{here}/ca.pem"]
        ca = f"{here}/ca.pem"
        with testing.cluster(3, flags=flags, scheme="https", ca_file=ca) as cluster:
            with cluster.client() as client:
                client.create("/core/examples", {"name": "x"}, name="x")
                cluster.kill(cluster.owner_of("/core/examples/x"))
                client.patch("/core/examples/x", {"counter": 1})
                self.assertEqual(client.get("/core/examples/x").version, 1)
            alive = next(node.address for node in cluster.nodes if node.is_up)
            with amrita.Client(alive, ca_file=f"{here}/other.pem", patience=0.5) as stranger:
                with self.assertRaises(amrita.Unreachable) as caught:
                    stranger.create("/core/examples", {"name": "y"})
                self.assertIn("certificate", str(caught.exception).lower())
                self.assertEqual(caught.exception.outcome, "notApplied")
            with amrita.Client(cluster.addresses, patience=0.5) as careless:
                with self.assertRaisesRegex(amrita.AmritaError, "ca_file"):
                    careless.get("/core/examples/x")


if __name__ == "__main__":
    unittest.main()
