"""A bundle is what was signed, file for file and byte for byte, or the installer refuses it and says why."""

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.bundle import contents, images, signing
from scripts.bundle.__main__ import main
from scripts.bundle.bill import bill_of

ROOT = Path(__file__).parents[3]
SHELLS = [shell for shell in ("dash", "sh") if shutil.which(shell)]
TOOLS = ("openssl", "sha256sum", "readlink", "find", "sort", "uniq", "sed", "grep", "dirname", "head", "sh", "cat")
LOCK = """# made by a tool
numpy==2.3.5 \\
    --hash=sha256:{} \\
    --hash=sha256:{}
torch==2.13.0+cpu ; sys_platform == "linux" \\
    --hash=sha256:{}
""".format("a" * 64, "b" * 64, "c" * 64)


def make(to: Path, *more: str, key: Path | None = None) -> int:
    weights, lock = to / "tiny", to / "lock.txt"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "model.safetensors").write_bytes(bytes(range(256)))
    (weights / "config.json").write_text("{}")
    lock.write_text(LOCK)
    without = ("--without-images", "--without-wheels")
    named = ("--weights", f"tiny={weights}", "--lock", str(lock), "--key", str(key or to / "release.key"))
    return main([*without, *named, "--to", str(to / "dist"), *more])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has release.key, release.key.pub and dist/."""
    folder = tmp_path_factory.mktemp("made")
    assert make(folder) == 0
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(next((made / "dist").glob("bundle-*/")), tmp_path / "bundle"))


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the programs that the installer may use; neither Python nor Docker among them."""
    folder = tmp_path_factory.mktemp("tools")
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    return folder


def install(bundle: Path, key: Path, *more: str, path: Path | None = None, shell: str = SHELLS[0]) -> tuple[int, str]:
    """Exit status and words of a trusted copy of the installer."""
    command = [
        shutil.which(shell) or shell,
        str(ROOT / "scripts/bundle/install.sh"),
        "--key",
        str(key),
        *more,
        str(bundle),
    ]
    environment = {"PATH": str(path)} if path else dict(os.environ)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def public(made: Path) -> Path:
    return made / "release.key.pub"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_whole_bundle_is_accepted_without_python_docker_or_a_network(
    shell: str, made: Path, bundle: Path, tools: Path
) -> None:
    command = [shutil.which(shell) or shell, "install.sh", "--key", str(public(made)), "--check"]
    done = subprocess.run(command, cwd=bundle, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK  fedfm ")
    status, words = install(bundle, public(made), path=tools, shell=shell)
    assert status == 0
    assert "no images" in words


def change(name: str, how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).write_bytes(how((bundle / name).read_bytes())) and None


def link(bundle: Path) -> None:
    (bundle / "LICENSE").rename(bundle.parent / "LICENSE")
    (bundle / "LICENSE").symlink_to(bundle.parent / "LICENSE")


def listed_again(bundle: Path) -> None:
    """What somebody without the key can do."""
    (bundle / "LICENSE").write_text("other")
    (bundle / signing.LIST).write_text("".join(f"{d}  {n}\n" for n, d in sums(bundle).items()))


def signed_by_another(bundle: Path) -> None:
    listed_again(bundle)
    for name in (signing.LIST, signing.SIGNATURE):
        (bundle / name).unlink()
    signing.sign(bundle, signing.key_of(bundle.parent / "other.key", outside=bundle))


def sums(bundle: Path) -> dict[str, str]:
    found = signing.sums(bundle)
    return {name: found[name] for name in found if name not in (signing.LIST, signing.SIGNATURE)}


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of the weights": (change("weights/tiny/model.safetensors", lambda old: b"\x01" + old[1:]), "SITE-E243"),
    "a byte of the installer": (change("install.sh", lambda old: old + b"\n"), "SITE-E243"),
    "a file cut short": (change("docs/errors.md", lambda old: old[:-1]), "SITE-E243"),
    "an empty file": (change("VERSION", lambda _: b""), "SITE-E243"),
    "a file too many": (lambda bundle: (bundle / "docs" / "new.md").write_text("x"), "SITE-E242"),
    "a hidden file": (lambda bundle: (bundle / ".hidden").write_text("x"), "SITE-E242"),
    "a name of two lines": (lambda bundle: (bundle / "a\nLICENSE").write_text("x"), "SITE-E242"),
    "a second list elsewhere": (lambda bundle: (bundle / "docs" / "SHA256SUMS").write_text("x"), "SITE-E242"),
    "a file too few": (lambda bundle: (bundle / "LICENSE").unlink(), "SITE-E242"),
    "a file renamed": (lambda bundle: (bundle / "LICENSE").rename(bundle / "LICENCE"), "SITE-E242"),
    "a link": (link, "SITE-E242"),
    "a pipe": (lambda bundle: os.mkfifo(bundle / "pipe"), "SITE-E242"),
    "a byte of the list": (
        change("SHA256SUMS", lambda old: b"0" + old[1:] if old[:1] != b"0" else b"1" + old[1:]),
        "SITE-E241",
    ),
    "the list written anew": (listed_again, "SITE-E241"),
    "signed by another key": (signed_by_another, "SITE-E241"),
    "a byte of the signature": (change("SHA256SUMS.sig", lambda old: bytes([old[0] ^ 1]) + old[1:]), "SITE-E241"),
    "no signature": (lambda bundle: (bundle / "SHA256SUMS.sig").unlink(), "SITE-E241"),
    "no list": (lambda bundle: (bundle / "SHA256SUMS").unlink(), "SITE-E241"),
    "no bundle": (shutil.rmtree, "SITE-E242"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_bundle_that_was_tampered_with_is_refused(how: str, made: Path, bundle: Path, tools: Path) -> None:
    tamper, code = TAMPERED[how]
    tamper(bundle)
    status, words = install(bundle, public(made), path=tools)
    assert (status, words.split(" ")[0]) == (1, code), words
    assert "\n  got: " in words
    assert "\n  fix: " in words


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_changed_byte_goes_unseen(data: st.DataObject, made: Path, tools: Path) -> None:
    whole = next((made / "dist").glob("bundle-*/"))
    files = sorted(path for path in whole.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at, by = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(content[:at] + bytes([content[at] ^ by]) + content[at + 1 :])
    try:
        status, words = install(whole, public(made), "--check", path=tools)
    finally:
        path.write_bytes(content)
    assert status == 1, path
    assert words.split(" ")[0] in ("SITE-E241", "SITE-E243"), words


def a_key(kind: str, made: Path, bundle: Path) -> Path:
    path = bundle.parent / "key"
    if kind == "in the bundle":
        path = bundle / "release.key.pub"
    elif kind == "a link into the bundle":
        shutil.copy(public(made), bundle / "inside.pub")
        path.symlink_to(bundle / "inside.pub")
        return path
    private = rsa.generate_private_key(65537, 2048)
    contents = {
        "in the bundle": public(made).read_bytes(),
        "private": (made / "release.key").read_bytes(),
        "of another kind": private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "no key": b"hello",
        "absent": None,
    }
    if (content := contents[kind]) is not None:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind", ["in the bundle", "a link into the bundle", "private", "of another kind", "no key", "absent"]
)
def test_a_key_that_proves_nothing_is_refused(kind: str, made: Path, bundle: Path, tools: Path) -> None:
    status, words = install(bundle, a_key(kind, made, bundle), path=tools)
    assert (status, words.split(" ")[0]) == (1, "SITE-E240"), words


def test_another_key_is_refused_with_its_fingerprint(made: Path, bundle: Path, tools: Path, tmp_path: Path) -> None:
    other = signing.key_of(tmp_path / "other.key", outside=bundle)
    status, words = install(bundle, tmp_path / "other.key.pub", path=tools)
    assert (status, words.split(" ")[0]) == (1, "SITE-E241")
    assert signing.fingerprint(other.public_key()) in words


@pytest.mark.parametrize("tool", ["openssl", "sha256sum"])
def test_a_missing_or_old_program_is_named(tool: str, made: Path, bundle: Path, tools: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(tools, fewer, symlinks=True)
    (fewer / tool).unlink()
    status, words = install(bundle, public(made), path=fewer)
    assert (status, words.split(" ")[0], f"no {tool}" in words) == (1, "SITE-E245", True)
    if tool == "openssl":
        program(fewer / tool, "echo 'OpenSSL 1.1.1k  25 Mar 2021'")
        status, words = install(bundle, public(made), path=fewer)
        assert (status, words.split(" ")[0], "OpenSSL 1.1.1k" in words) == (1, "SITE-E245", True)


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


DOCKERS = {
    "the recorded images": (
        'case $1 in image) echo "sha256:$(echo "$5" | sed s/.*://)" ;; esac',
        0,
        "OK  fedfm/b:2 sha256:2",
    ),
    "another image": ("case $1 in image) echo sha256:1 ;; esac", 1, "SITE-E244"),
    "no such image": ("case $1 in image) exit 1 ;; esac", 1, "SITE-E244"),
    "no engine": ("echo cannot connect >&2; exit 1", 1, "SITE-E246"),
    "no docker": ("", 1, "SITE-E245"),
}


@pytest.mark.parametrize("engine", DOCKERS)
def test_images_are_loaded_and_must_be_the_recorded_ones(
    engine: str, made: Path, bundle: Path, tools: Path, tmp_path: Path
) -> None:
    """A stand-in for the engine: what it answers is what the installer must judge."""
    script, expected, word = DOCKERS[engine]
    for name in (signing.LIST, signing.SIGNATURE):
        (bundle / name).unlink()
    (bundle / "images.txt").write_text("sha256:1 fedfm/a:1\nsha256:2 fedfm/b:2\n")
    (bundle / "images.tar.gz").write_bytes(b"images")
    signing.sign(bundle, signing.key_of(made / "release.key", outside=bundle))
    with_docker = tmp_path / "with-docker"
    shutil.copytree(tools, with_docker, symlinks=True)
    calls = tmp_path / "calls"
    if script:
        program(with_docker / "docker", f'echo "$*" >>{calls}\n{script}')
    assert install(bundle, public(made), "--check", path=with_docker)[0] == 0
    assert not calls.exists()
    status, words = install(bundle, public(made), path=with_docker)
    assert (status, word in words) == (expected, True), words


def test_the_installer_says_how_to_use_it(bundle: Path) -> None:
    for arguments in ([], ["--key"], ["--what"], ["--key", "x", "a", "b"]):
        done = subprocess.run(["sh", "install.sh", *arguments], cwd=bundle, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "sh install.sh --key FILE [--check] [BUNDLE]" in done.stderr


def test_what_is_in_it(made: Path, bundle: Path) -> None:
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert names >= {"install.sh", "VERSION", "SHA256SUMS", "SHA256SUMS.sig", "LICENSE", "conf/site/example.yaml"}
    assert names >= {"docs/how-to/without-a-network.md", "sbom/locked.cdx.json", "weights/tiny/MANIFEST.sha256"}
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "MANIFEST.sha256"],
        cwd=bundle / "weights/tiny",
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0
    assert b"model.safetensors: OK" in checked.stdout
    assert not any("release.key" in name for name in names)
    with tarfile.open(next((made / "dist").glob("*.tar"))) as tar:
        packed = {entry.name.partition("/")[2]: entry for entry in tar if entry.isfile()}
        assert set(packed) == names
        assert all(entry.uid == entry.gid == entry.mtime == 0 for entry in packed.values())
        assert packed["install.sh"].mode & 0o111


def test_the_same_files_and_key_make_the_same_bundle(made: Path, tmp_path: Path) -> None:
    assert make(tmp_path, key=made / "release.key") == 0
    first, second = (next((folder / "dist").glob("*.tar")).read_bytes() for folder in (made, tmp_path))
    assert first == second


def test_every_pattern_of_pages_and_templates_finds_something() -> None:
    assert [pattern for pattern in (*contents.TEMPLATES, *contents.PAGES) if not [*ROOT.glob(pattern)]] == []


@pytest.mark.parametrize("left", ["folder", "tar"])
def test_a_bundle_is_not_overwritten(left: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "dist", tmp_path / "dist")
    (folder,) = (tmp_path / "dist").glob("bundle-*/")
    if left == "tar":
        shutil.rmtree(folder)
        folder = folder.with_name(f"{folder.name}.tar")
    else:
        folder.with_name(f"{folder.name}.tar").unlink()
    assert make(tmp_path) == 1
    assert f"ENGINE-E151 there is such a bundle already\n  {folder}\n" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {folder.name}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_search_path_for_folders_leads_to_no_other_bundle(
    shell: str, made: Path, bundle: Path, tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / bundle.name).mkdir(parents=True)
    command = [shutil.which(shell) or shell, str(ROOT / "scripts/bundle/install.sh"), "--key", str(public(made))]
    environment = {"PATH": str(tools), "CDPATH": str(tmp_path / "elsewhere")}
    command += ["--check", bundle.name]
    done = subprocess.run(command, cwd=bundle.parent, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:2]) == (0, "OK"), done.stderr


def test_the_bundle_has_what_the_page_for_hospitals_takes_from_it(bundle: Path) -> None:
    """``docs/how-to/join-as-a-hospital.md`` copies these files out of a bundle, by these names."""
    page = (bundle / "docs/how-to/join-as-a-hospital.md").read_text()
    taken = re.findall(r"\.\./bundle-[\d.]+/(\S+)", page)
    assert set(taken) == {"docker/site.compose.yaml", "weights"}
    assert all((bundle / name).exists() for name in taken)
    assert "/join/weights" in page
    assert (bundle / "weights/tiny/model.safetensors").is_file()


def test_the_bill_names_every_locked_package(bundle: Path) -> None:
    bill = json.loads((bundle / "sbom/locked.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {part["purl"]: [one["content"][0] for one in part["hashes"]] for part in bill["components"]}
    assert found == {"pkg:pypi/numpy@2.3.5": ["a", "b"], "pkg:pypi/torch@2.13.0%2Bcpu": ["c"]}
    assert bill_of([], version="1")["components"] == []


@pytest.mark.parametrize(
    ("name", "code"), [("pytorch_model.bin", "ENGINE-E150"), ("vocab list.txt", "ENGINE-E150"), ("..", "")]
)
def test_what_cannot_be_carried_is_refused_and_nothing_is_left(
    name: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if code:
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny" / name).write_bytes(b"x")
        assert make(tmp_path) == 1
        assert code in capsys.readouterr().err
        assert list((tmp_path / "dist").iterdir()) == []
    else:
        with pytest.raises(SystemExit):
            make(tmp_path, "--weights", "../tiny=x")


DOCKERFILE = ROOT / "docker" / "Dockerfile"


@pytest.mark.skipif(not DOCKERFILE.is_file(), reason="docker/Dockerfile is not there")
def test_the_images_of_a_bundle_are_those_that_are_built() -> None:
    titles = re.findall(r'image\.title="fedfm ([a-z]+)"', DOCKERFILE.read_text())
    others = {"demo", "tunnel"}  # one-shot jobs; what only mutual TLS needs is named with --image
    assert sorted(images.TARGETS) == sorted(set(titles) - others)


def test_a_key_of_another_kind_signs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private = rsa.generate_private_key(65537, 2048)
    key = tmp_path / "rsa.key"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert make(tmp_path, key=key) == 1
    assert "ENGINE-E153" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_a_made_key_is_private(made: Path) -> None:
    assert (made / "release.key").stat().st_mode & 0o077 == 0
