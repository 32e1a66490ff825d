#!/usr/bin/env bash
# Makes a Debian 12 image from Debian's packages, for machines that reach no registry of images.
# Needs root, mmdebstrap, and podman or docker. Then build with BASE=forethought-base:bookworm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=docker/tools.sh
source docker/tools.sh

root=$(mktemp --suffix .tar)
trap 'rm -f "$root"' EXIT
# usrmerge, and Perl with it, is there for systems that are not merged yet.
perl='libfile-find-rule-perl libnumber-compare-perl libtext-glob-perl perl perl-modules-5.36 libperl5.36'
mmdebstrap --quiet --variant=minbase --mode=root --include=ca-certificates,usr-is-merged \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook="chroot \"\$1\" dpkg --purge usrmerge $perl" \
  bookworm "$root"
"$(first_of podman docker)" import "$root" forethought-base:bookworm
