"""The processor of this machine, as far as it matters to integer kernels."""

import functools
import platform
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""The features that decide which kernels run, under the names that Linux gives them."""
VNNI = {"avx_vnni", "avx512_vnni"}
CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Returns the processor's name, or its architecture where it has none."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def processor_flags() -> tuple[str, ...]:
    """Returns those of `FLAGS` that the processor has; none where that is not known."""
    known = f"{_cpuinfo().get('flags', '')} {_cpuinfo().get('Features', '')}".split()
    return tuple(flag for flag in FLAGS if flag in known)


def products_saturate() -> bool:
    """Whether sums of two products of 8-bit codes are cut off at 16 bits: on x86 without VNNI, or in doubt."""
    return platform.machine().lower() in {"x86_64", "amd64"} and not VNNI & set(processor_flags())


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """Returns name and value of each line about the first core; none where there is no such file."""
    try:
        first, _, _ = CPUINFO.read_text("utf-8").partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
