"""The yardsticks: what each needs, how it is built, and how its programs are run.

Sources lie in a folder for each language, what is made of them in bench/build/yardsticks.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, which

HERE = Path(__file__).parent
BENCH = HERE.parent
BUILD = BENCH / "build" / "yardsticks"

CRATES = Path("/usr/share/cargo/registry")
"""Where Debian's packages put the sources of crates; without them cargo asks crates.io."""
JARS = Path(os.environ.get("NETTY_JARS", "/usr/share/java"))
JAR_NAMES = ("buffer", "codec", "common", "handler", "resolver", "transport")
NATIVE_NAMES = ("transport-native-epoll", "transport-native-unix-common")


@dataclass(frozen=True)
class Yardstick:
    title: str
    decode: tuple[str, ...]
    echo: tuple[str, ...]
    build: Callable[[], None]
    version: Callable[[], str]
    tools: tuple[str, ...] = ()
    """Commands that it cannot be built without."""
    packages: tuple[str, ...] = ()
    """Debian's packages that bring them."""
    warmup: int = 3
    """Passes before those that count."""
    seconds: float = 0.3
    """For which the echo is loaded before its messages count."""

    def missing(self) -> str:
        """Why it cannot be built; empty if it can."""
        absent = [tool for tool in self.tools if not (which(tool) or Path(tool).exists())]
        return f"there is no {', no '.join(absent)}" if absent else ""


def compiler() -> str:
    return os.environ.get("CC") or which("cc") or "gcc"


def make(*command: str | Path, cwd: Path = HERE) -> None:
    """Run a compiler; what it says is shown only if it fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def said(*command: str) -> str:
    """The first line."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.split("\n", 1)[0]


def number(text: str) -> str:
    """The version in a line; the line itself if there is none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


def nothing() -> None:
    """Python is built already."""


# C


def build_c() -> None:
    make(compiler(), "-O3", "-std=gnu11", "-o", BUILD / "c_decode", "c/decode.c")


def version_c() -> str:
    line = said(compiler(), "--version")
    return f"{'clang' if 'clang' in line else 'gcc'} {number(line)}"


# Rust


def build_rust() -> None:
    copytree(HERE / "rust", BUILD / "rust", dirs_exist_ok=True)
    command = ["cargo", "build", "--release"]
    if CRATES.exists():
        source = f"source.debian.directory='{CRATES}'"
        command += ["--offline", "--config", "source.crates-io.replace-with='debian'", "--config", source]
    make(*command, cwd=BUILD / "rust")


def version_rust() -> str:
    locked = dict(re.findall(r'name = "(.+)"\nversion = "(.+)"', (BUILD / "rust" / "Cargo.lock").read_text()))
    crates = ", ".join(f"{name} {locked[name]}" for name in ("tokio-util", "tokio", "bytes"))
    return f"{crates}, rustc {number(said('rustc', '--version'))}"


# Java


def class_path() -> str:
    jars = [JARS / f"netty-{name}.jar" for name in JAR_NAMES + NATIVE_NAMES]
    return os.pathsep.join(str(path) for path in [BUILD / "java", *jars])


def build_java() -> None:
    make("javac", "-d", BUILD / "java", "-cp", class_path(), "java/Decode.java", "java/Echo.java")


def version_java() -> str:
    versions = [path.name for path in JARS.glob("netty-codec-[0-9]*.jar")]
    return f"Netty {number(versions[0]) if versions else '?'}, OpenJDK {number(said('java', '--version'))}"


def java(name: str) -> tuple[str, ...]:
    return ("java", "-Dio.netty.leakDetection.level=disabled", "-cp", class_path(), name)


# Go


def build_go() -> None:
    for name in ("decode", "echo"):
        make("go", "build", "-o", BUILD / f"go_{name}", f"go/{name}.go")


def version_go() -> str:
    return f"Go {number(said('go', 'version'))}"


def version_python() -> str:
    import framewire

    python = f"{sys.implementation.name.replace('cpython', 'CPython')} {number(sys.version)}"
    core = "compiled" if framewire.CORE == "c" else "pure"
    return f"framewire {framewire.__version__}, {core} core, {python}"


FRAMEWIRE = "framewire"
YARDSTICKS = {
    FRAMEWIRE: Yardstick(
        title="framewire",
        decode=(sys.executable, str(HERE / "decode.py")),
        echo=(sys.executable, str(BENCH / "servers" / "framewire_loop.py")),
        build=nothing,
        version=version_python,
    ),
    "c": Yardstick(
        title="C",
        decode=(str(BUILD / "c_decode"),),
        echo=(str(BENCH / "build" / "server"),),
        build=build_c,
        version=version_c,
        tools=(compiler(),),
        packages=("gcc", "libc6-dev"),
    ),
    "tokio": Yardstick(
        title="Rust, tokio-util",
        decode=(str(BUILD / "rust" / "target" / "release" / "decode"),),
        echo=(str(BUILD / "rust" / "target" / "release" / "echo"),),
        build=build_rust,
        version=version_rust,
        tools=("cargo", "rustc"),
        packages=("cargo", "rustc", "librust-tokio-dev", "librust-tokio-util-dev", "librust-futures-util-dev"),
    ),
    "netty": Yardstick(
        title="Java, Netty",
        decode=java("Decode"),
        echo=java("Echo"),
        build=build_java,
        version=version_java,
        tools=("java", "javac", str(JARS / "netty-codec.jar")),
        packages=("default-jdk-headless", "libnetty-java"),
        warmup=40,
        seconds=3.0,
    ),
    "go": Yardstick(
        title="Go, bufio",
        decode=(str(BUILD / "go_decode"),),
        echo=(str(BUILD / "go_echo"),),
        build=build_go,
        version=version_go,
        tools=("go",),
        packages=("golang-go",),
    ),
}
