"""Compiles the engine and the answer writer; every compiler directive lives here.

One switch, ADCORE_BUILD, chooses how:

release   what ships: optimised, no bounds checks, no asserts
debug     bounds, overflow and None checks on, asserts on
coverage  debug, plus line tracing inside nogil code (CPython 3.11 only)
asan      debug, plus AddressSanitizer and UndefinedBehaviorSanitizer
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILD = os.environ.get("ADCORE_BUILD", "release")
BUILDS = ("release", "debug", "coverage", "asan")
if BUILD not in BUILDS:
    raise SystemExit(f"ADCORE_BUILD={BUILD!r}: expected one of {', '.join(BUILDS)}")

JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

CHECKED = BUILD != "release"
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]

compile_args = ["-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter"]
compile_args += ["-O1", "-g"] if CHECKED else ["-O3", "-g0"]
macros = [("CYTHON_WITHOUT_ASSERTIONS", "1")] if not CHECKED else []
if BUILD == "asan":
    compile_args += SANITIZE
if BUILD == "coverage":
    macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]

directives = {
    "language_level": 3,
    "binding": False,
    "embedsignature": False,
    "cdivision": True,
    "boundscheck": CHECKED,
    "wraparound": False,
    "initializedcheck": CHECKED,
    "nonecheck": CHECKED,
    "linetrace": BUILD == "coverage",
    "profile": BUILD == "coverage",
}

# Generated C goes below build/, one folder a variant, so that variants never overwrite each other.
setup(
    ext_modules=cythonize(
        [
            Extension(
                ".".join(source.with_suffix("").parts),
                [source.as_posix()],
                extra_compile_args=compile_args,
                extra_link_args=SANITIZE if BUILD == "asan" else [],
                define_macros=macros,
            )
            for folder in ("adcore", "server/events", "server/ledger", "server/delivery")
            for source in sorted(Path(folder).glob("*.pyx"))
        ],
        build_dir=f"build/c-{BUILD}",
        compiler_directives=directives,
        annotate=BUILD == "release",
        quiet=True,
        nthreads=JOBS,
    ),
    # The compiler, too, takes one core a file.
    options={"build_ext": {"parallel": JOBS}},
)
