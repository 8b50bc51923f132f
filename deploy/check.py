#!/usr/bin/env python3
"""Checks what is in this folder with the tools of others, as far as they are at hand.

    pip install helm-python-sdk kubernetes-validate pyyaml
    deploy/check.py

The chart is linted and rendered by Helm's own library, and what comes out is held against the schemas
of Kubernetes. `promtool` (Debian: package prometheus) looks at the rules, `systemd-analyze` at the unit.
What is not installed is named and left out. That metrics, flags and variables exist in the product is
checked by `cargo test -p amrita --test deploy`.
"""
import pathlib, shutil, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "helm/amrita"
KUBERNETES = ["1.30", "1.35"]
GOOD = {
    "as it is": {},
    "without TLS": {"tls": {"insecure": True, "secretName": ""}},
    "all values": {
        "nodes": 5, "antiAffinity": "preferred", "extraArgs": ["--log-format=json"],
        "storage": {"size": "1Gi", "storageClassName": "fast"}, "nodeSelector": {"a": "b"},
        "extraEnv": [{"name": "A", "value": "b"}], "podAnnotations": {"a": "b"},
        "tolerations": [{"key": "x", "operator": "Exists"}], "imagePullSecrets": [{"name": "x"}],
        "serviceAccount": {"annotations": {"a": "b"}},
    },
}
BAD = [{"nodes": "three"}, {"nodes": 0}, {"tls": {"secretName": ""}}, {"antiAffinity": "never"}]


def run(*words):
    print("==", *words)
    return subprocess.run(words).returncode == 0


def chart():
    try:
        import yaml
        from helm_python import chart as helm
        from kubernetes_validate import ValidationError, validate
    except ImportError as error:
        return print("left out: the chart,", error) or True
    linted = helm.lint(str(CHART))
    passed = not linted["errors"]
    print("== helm lint:", linted["messages"])

    def rendered(values):
        with helm.Chart.load(str(CHART)) as loaded:
            made = loaded.render(values=values, name="shop", namespace="prod")
        made = [text for name, text in made.items() if not name.endswith(".txt")]
        return [one for text in made for one in yaml.safe_load_all(text) if one]

    for name, values in GOOD.items():
        objects = rendered(values)
        for version in KUBERNETES:
            for one in objects:
                try:
                    validate(one, version, strict=True)
                except ValidationError as error:
                    passed = print("FAILED:", name, version, one["kind"], error.message) or False
        print("== helm template,", name + ":", ", ".join(one["kind"] for one in objects))
    for values in BAD:
        try:
            rendered(values)
            passed = print("FAILED: taken, and is to be refused:", values) or False
        except Exception as error:
            print("== refused, as it is to be:", str(error).split(": ")[-1][:90])
    return passed


def compose():
    try:
        import yaml
    except ImportError as error:
        return print("left out: the compose file,", error) or True
    services = yaml.safe_load((HERE / "docker/compose.yaml").read_text())["services"]
    peers = {"http://%s:8000" % name for name in services}
    passed = all(
        set(one["environment"]["AMRITA_PEER_NODES"].split(",")) == peers
        and one["environment"]["AMRITA_PUBLIC_URI"] in peers
        and all(port.startswith("127.0.0.1:") for port in one["ports"])
        for one in services.values()
    )
    print("== compose:", "good" if passed else "FAILED: the nodes do not name one another")
    return passed


def unit():
    """The program and the manual that the unit names need not be installed: stand-ins will do."""
    with tempfile.TemporaryDirectory() as folder:
        text = (HERE / "systemd/amrita.service").read_text()
        text = text.replace("/usr/bin/amrita", "/bin/true").replace("Documentation=", "#")
        copy = pathlib.Path(folder) / "amrita.service"
        copy.write_text(text)
        return run("systemd-analyze", "verify", str(copy)) and run(
            "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(copy))


def main():
    passed = [chart(), compose()]
    for tool, check in {
        "systemd-analyze": unit,
        "promtool": lambda: run("promtool", "check", "rules", str(HERE / "prometheus/alerts.yml"))
        and run("promtool", "test", "rules", str(HERE / "prometheus/alerts_test.yml"))
        and run("promtool", "check", "config", "--syntax-only", str(HERE / "prometheus/scrape.yml")),
    }.items():
        passed.append(check() if shutil.which(tool) else print("left out:", tool) or True)
    print("everything passed" if all(passed) else "FAILED")
    return 0 if all(passed) else 1


sys.exit(main())
