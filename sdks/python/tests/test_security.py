"""Nodes that demand a login, and nodes that speak TLS."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import amrita
from amrita import immortal, testing
from amrita.service import Service

from tests.support import EXAMPLES, HERE


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


def make_certificates(here: Path, *names: str) -> None:
    """Two authorities, `ca` and `other`, and a certificate for each name by the first."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        files = ("-keyout", f"{here}/{name}-key.pem", "-out", f"{here}/{name}.pem")
        run("openssl", "req", "-x509", *key, "-subj", f"/CN={name}", *files)
    signed = ("-CA", f"{here}/ca.pem", "-CAkey", f"{here}/ca-key.pem")
    extra = ("-addext", "subjectAltName=IP:127.0.0.1")
    extra += ("-addext", "basicConstraints=critical,CA:FALSE")
    for name in names:
        files = ("-keyout", f"{here}/{name}-key.pem", "-out", f"{here}/{name}.pem")
        run("openssl", "req", "-x509", *key, "-subj", f"/CN={name}", *extra, *signed, *files)


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificates, and is not there")
class Encrypted(unittest.TestCase):
    """A node with TLS that asks for a login."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name)
        make_certificates(self.here, "n1")
        ca = f"{self.here}/ca.pem"
        flags = ["--auth", "--tls-cert", f"{self.here}/n1.pem", "--tls-key"]
        flags += [f"{self.here}/n1-key.pem", "--tls-client-ca", ca]
        made = testing.cluster(1, flags=flags, wait=False, scheme="https", ca_file=ca)
        self.cluster = made.__enter__()
        self.addCleanup(made.__exit__, None, None, None)
        file = self.cluster.nodes[0].sandbox / "first-login"
        testing.wait_for("the first admin", lambda: file.exists() and file.read_text().strip())
        self.client = self.cluster.client()
        self.addCleanup(self.client.close)

        def login() -> str:
            return self.client.login("admin", file.read_text().strip())

        self.token = testing.wait_for("a login", login)


class Programs(Encrypted):
    def start(self, name: str, token: str, ca: str = "ca", *more: str) -> testing.Program:
        environment = {"AMRITA_TOKEN": token, "AMRITA_CA_FILE": f"{self.here}/{ca}.pem"}
        arguments = [str(EXAMPLES / "hello.py"), name, "--node", self.cluster.nodes[0].address]
        return self.cluster.program([*arguments, *more], env=environment)

    def test_a_program_attaches_over_tls_with_a_token_and_not_without(self) -> None:
        for name in ("server", "client1", "client2"):
            self.client.register(name)
        stranger = self.start("server", "amr_made.up")
        self.assertNotEqual(stranger.wait(), 0)
        self.assertIn("UNAUTHORIZED", "\n".join(stranger.said))
        self.assertNotIn("amr_made.up", "\n".join(stranger.said))
        nobody = self.start("server", "")
        self.assertNotEqual(nobody.wait(), 0)
        careless = self.start("server", self.token, "other")
        careless.says("certificate")
        careless.kill()
        server = self.start("server", self.token, "ca", "--numbers")
        client = self.start("client1", self.token)
        client.says("Press enter to continue")
        client.type()
        client.says("Sent message 3.")
        server.says("#3 ")
        client.kill()
        client = self.start("client2", self.token)
        client.says("Enter a message")
        # More than goes through the connection at once, in both directions.
        long = "grüße " * 50_000
        client.type(long)
        server.says("#4 ")

    def test_what_would_be_shown_to_others_or_believed_from_anybody_is_refused(self) -> None:
        for node, more, why in (
            ("http://127.0.0.1:1", {"token": "t"}, "over TLS only"),
            ("https://127.0.0.1:1,/tmp", {"token": "t"}, "over TLS only"),
            ("https://127.0.0.1:1", {}, "ca_file"),
            ("https://127.0.0.1:1", {"ca_file": f"{self.here}/none.pem"}, "none.pem"),
            ("https://127.0.0.1:1", {"token": "a\r\nb", "ca_file": f"{self.here}/ca.pem"}, "letter"),
        ):
            with self.assertRaisesRegex(amrita.BadValue, why):
                immortal.run(lambda: None, "x", node, **more)  # type: ignore[arg-type]


COUNTERS = "/app/counters"


class Services(Encrypted):
    """A program that has the handlers of a kind: who may define kinds may attach it."""

    def setUp(self) -> None:
        super().setUp()
        self.tokens = {role: self.made(role) for role in ("operator", "writer", "reader")}

    def made(self, role: str) -> str:
        """A token of a user of that role, and of that name."""
        user = {"email": role, "userGroupLinks": [f"/core/authz/user-groups/{role}s"]}
        self.client.create("/core/authz/users", user, name=role)
        wanted = {"userLink": f"/core/authz/users/{role}"}
        return str(self.client.request("POST", "/core/auth/tokens", wanted).body["token"])

    def start(self, token: str) -> testing.Program:
        environment = {"AMRITA_TOKEN": token, "AMRITA_CA_FILE": f"{self.here}/ca.pem"}
        node = self.cluster.nodes[0].address
        return self.cluster.program([str(HERE / "served.py"), "one", "--node", node], env=environment)

    def attach(self, token: str) -> str:
        """The code with which a program is refused that defines nothing."""
        node, ca_file = self.cluster.nodes[0].address, f"{self.here}/ca.pem"
        with self.assertRaises(immortal.RunError) as caught:
            Service(COUNTERS, dict).run(node, token=token, ca_file=ca_file)
        self.assertNotIn(token, str(caught.exception))
        return str(caught.exception.code)

    def test_a_service_attaches_with_a_token_that_may_and_is_told_who_asks(self) -> None:
        for token in (self.tokens["writer"], self.tokens["reader"], "amr_made.up", ""):
            stranger = self.start(token)
            self.assertNotEqual(stranger.wait(), 0)
            self.assertNotIn("serving", "\n".join(stranger.said))
        program = self.start(self.tokens["operator"])
        program.says(f"serving {COUNTERS}")
        # The kind is there now; who may not define it may not attach either.
        self.assertEqual(self.attach(self.tokens["writer"]), "ACCESS_DENIED")
        self.assertEqual(self.attach("amr_made.up"), "UNAUTHORIZED")
        one = f"{COUNTERS}/A"
        with self.cluster.client(token=self.tokens["writer"]) as writer:
            writer.create(COUNTERS, {"count": 1}, name="A")
            self.assertEqual(writer.act(one, "add", {"number": 2}).value["count"], 3)
            self.assertEqual(writer.act(one, "who").value["note"], "/core/authz/users/writer")
        called = len(program.said)
        with self.cluster.client(token=self.tokens["reader"]) as reader:
            self.assertEqual(reader.get(one).value["count"], 3)
            for work in (
                lambda: reader.act(one, "add"),
                lambda: reader.patch(one, {"note": "x"}),
                lambda: reader.create(COUNTERS, {"count": 1}, name="B"),
            ):
                with self.assertRaises(amrita.Forbidden) as caught:
                    work()
                self.assertEqual(caught.exception.outcome, "notApplied")
        self.assertEqual(len(program.said), called, "it was called for one who may not")
        self.assertEqual(self.client.get(one).value["count"], 3)


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificates, and is not there")
class Tls(unittest.TestCase):
    def test_only_the_named_authority_is_believed(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        here = Path(folder.name)
        make_certificates(here, "n1", "n2", "n3")
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
