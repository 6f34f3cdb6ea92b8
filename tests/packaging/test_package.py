"""What is built, what is pinned, and what a wrong checkout or import is told."""

import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from _processes import print_installed
from _processes import run as run_apart

import segaudit

ROOT = Path(__file__).parents[2]


def python(*args: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git knows or would add, links kept."""
    copy = tmp_path_factory.mktemp("checkout") / "repo"
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout):
    # The environment that constraints.txt makes has setuptools: torch needs it.
    done = python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(checkout / "out"), cwd=checkout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = (checkout / "out").glob("*.whl")
    return path


def test_the_wheel_holds_one_package(wheel, checkout):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"segaudit", f"segaudit-{segaudit.__version__}.dist-info"}
    held = {name for name in names if name.startswith("segaudit/")}
    sources = {f"segaudit/callbacks/{path.name}" for path in (checkout / "callbacks").glob("*.py")}
    package = checkout / "src" / "segaudit"
    sources |= {f"segaudit/{path.relative_to(package)}" for path in package.rglob("*.py")}
    sources |= {f"segaudit/{path.relative_to(package)}" for path in package.rglob("*.pyi")}
    pages = {f"segaudit/report/page.{kind}" for kind in ("html", "css", "js")}
    assert held == sources | pages | {"segaudit/py.typed", "segaudit/__init__.pyi"}
    assert {"segaudit/callbacks/audit.py", "segaudit/cli/program.py"} <= held


def test_the_wheels_metadata(wheel):
    with zipfile.ZipFile(wheel) as file:
        info = f"segaudit-{segaudit.__version__}.dist-info"
        metadata = Parser().parsestr(file.read(f"{info}/METADATA").decode())
        assert "segaudit = segaudit.cli:main" in file.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == segaudit.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert (ROOT / "README.md").read_text().splitlines()[0] in metadata.get_payload()


def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    first, second = run_apart(print_installed, tmp_path / "installed", log=tmp_path / "printed").splitlines()
    assert first == str(tmp_path / "installed" / "segaudit" / "__init__.py")
    assert second.split() == ["segaudit.callbacks.audit", str(tmp_path / "installed" / "segaudit/callbacks/__init__.py")]


def test_the_folder_callbacks_is_no_package_of_its_own(checkout):
    done = python("-c", "import callbacks", cwd=checkout)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: import these as `segaudit.callbacks`, not `callbacks`")


def test_callbacks_is_a_link_into_the_package(checkout):
    link = checkout / "src" / "segaudit" / "callbacks"
    assert link.is_symlink()
    assert os.readlink(link) == "../../callbacks"


def test_a_checkout_without_links_is_told_so(checkout, tmp_path):
    shutil.copytree(checkout / "src", tmp_path / "src", symlinks=True)
    link = tmp_path / "src" / "segaudit" / "callbacks"
    link.unlink()
    link.write_text("../../callbacks")  # what git writes where it may not make links
    done = python("-c", "import segaudit", cwd=tmp_path, PYTHONPATH=str(tmp_path / "src"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: src/segaudit/callbacks is a text file here")
    assert "git config core.symlinks true" in last


def test_the_program_from_the_checkout():
    done = python("-m", "src.cli", "--help", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for verb in ("fit", "validate", "test", "predict"):
        assert re.search(rf"^ +{verb} ", done.stdout, re.MULTILINE)


def project() -> dict[str, object]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


def requirements() -> list[str]:
    extras = project()["optional-dependencies"]
    return [*project()["dependencies"], *(line for lines in extras.values() for line in lines)]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def test_the_version_is_one():
    assert project()["version"] == segaudit.__version__


def test_constraints_are_exact_and_complete():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:  # a name and a version: no range, no address, no option
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+!]*", line), line
    pinned = {line.split("==")[0] for line in lines}
    assert len(pinned) == len(lines)
    assert {normal(line) for line in requirements()} - {"segaudit"} <= pinned
    assert "setuptools" in pinned  # to build without a network


def test_every_dependency_says_why_it_is_there():
    text = (ROOT / "pyproject.toml").read_text()
    head = text.split("[project.scripts]")[0]
    for requirement in requirements():
        (line,) = [line for line in head.splitlines() if f'"{requirement}"' in line]
        assert re.search(r"# \S+ \S+", line), f"pyproject.toml does not say why it asks for {requirement}"


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(segaudit.__path__, "segaudit.")]
    return ["segaudit", *found]


@pytest.mark.parametrize("name", modules())
def test_public_names_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "__path__"):
        assert module.__all__
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__, f"{name}.{public}"
