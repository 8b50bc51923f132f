"""Builds the wheel and the source archive, as `pip` asks for them (PEP 517).

In the tree and without any tool to be fetched, so that `pip install .` works on a machine without a
network. A wheel of pure Python is a zip file with three files of its own; nothing else is needed.
"""

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional

HERE = Path(__file__).parent
IN_ARCHIVE = ["pyproject.toml", "README.md", "LICENSE", "build_backend.py", "src"]


def _project() -> Dict[str, Any]:
    """The few fields that are needed. Python 3.9 and 3.10 cannot read TOML by themselves."""
    text = (HERE / "pyproject.toml").read_text("utf-8")
    part = text[text.index("[project]"):]
    fields: Dict[str, Any] = dict(re.findall(r'^([a-z-]+) = "(.*)"$', part, re.M))
    listed = re.search(r"^classifiers = \[(.*?)^\]", part, re.M | re.S)
    fields["classifiers"] = re.findall(r'"(.*?)"', listed.group(1) if listed else "")
    return fields


def _metadata() -> str:
    fields = _project()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {fields['name']}",
        f"Version: {fields['version']}",
        f"Summary: {fields['description']}",
        f"License: {fields['license']}",
        f"Requires-Python: {fields['requires-python']}",
        "Description-Content-Type: text/markdown",
    ]
    lines += [f"Classifier: {one}" for one in fields["classifiers"]]
    return "\n".join(lines) + "\n\n" + (HERE / "README.md").read_text("utf-8")


def _stem() -> str:
    fields = _project()
    return f"{fields['name']}-{fields['version']}"


def _package_files() -> List[Path]:
    found = sorted((HERE / "src").rglob("*"))
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def _write_wheel(folder: str, files: Dict[str, bytes]) -> str:
    info = f"{_stem()}.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: amrita\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = wheel.encode()
    files[f"{info}/LICENSE"] = (HERE / "LICENSE").read_bytes()
    record = []
    name = f"{_stem()}-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(data)}")
            # One moment for all: the same sources give the same wheel.
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), data)
        record.append(f"{info}/RECORD,,")
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return name


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    source = HERE / "src"
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in _package_files()}
    return _write_wheel(wheel_directory, files)


def build_editable(
    wheel_directory: str,
    config_settings: Optional[Dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    return _write_wheel(wheel_directory, {"amrita.pth": f"{HERE / 'src'}\n".encode()})


def build_sdist(sdist_directory: str, config_settings: Optional[Dict[str, Any]] = None) -> str:
    def clean(entry: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
        return None if "__pycache__" in entry.name else entry

    name = f"{_stem()}.tar.gz"
    with tarfile.open(Path(sdist_directory) / name, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path in IN_ARCHIVE:
            archive.add(HERE / path, f"{_stem()}/{path}", filter=clean)
        metadata = _metadata().encode()
        entry = tarfile.TarInfo(f"{_stem()}/PKG-INFO")
        entry.size = len(metadata)
        archive.addfile(entry, io.BytesIO(metadata))
    return name
