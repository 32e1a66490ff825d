#!/usr/bin/env bash
# Builds the images of all roles with docker, podman or buildah, whichever is there.
#
#   docker/build.sh [ROLE...]             all roles unless named: orchestrator gateway autoscaler target draft weights
#
# Environment:
#   BUILDER       docker, podman or buildah; by default the first that works
#   REPOSITORY    prefix of the images' names (forethought-)
#   TAG           of the images; by default the version of the package
#   BASE          a Debian 12 image; docker/base.sh makes one where no registry is reached
#   TORCH_INDEX   the index of torch's builds; empty where PyPI or WHEELS has the one that is wanted
#   PIP_CONF      a pip.conf for the build alone
#   WHEELS        a folder of wheels to look into first
#   ISOLATION     chroot where containers may not be made; podman and buildah
#   CA_BUNDLE     certificates to trust while building; podman and buildah
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=docker/tools.sh
source docker/tools.sh

roles=("$@")
((${#roles[@]})) || roles=(orchestrator gateway autoscaler target draft weights)

options=(--file docker/Dockerfile --build-arg "VERSION=$TAG"
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
[[ ${BASE-} ]] && options+=(--build-arg "BASE=$BASE")
[[ ${TORCH_INDEX+set} ]] && options+=(--build-arg "TORCH_INDEX=$TORCH_INDEX")
[[ ${PIP_CONF-} ]] && options+=(--secret "id=pip,src=$PIP_CONF")
[[ ${WHEELS-} ]] && options+=(--build-context "wheels=$WHEELS")

builder=${BUILDER:-$(first_of docker podman buildah)} || {
  echo 'build: install docker, podman or buildah' >&2
  exit 1
}
case $builder in
  docker) build=(docker buildx build --load) ;;
  *)
    # Layers are kept, so that roles share what they have in common.
    build=("$builder" build --layers)
    [[ ${ISOLATION-} ]] && build+=(--isolation "$ISOLATION")
    [[ ${CA_BUNDLE-} ]] && build+=(--volume "$CA_BUNDLE:/etc/ssl/certs/ca-certificates.crt:ro")
    ;;
esac

for role in "${roles[@]}"; do
  started=$SECONDS
  "${build[@]}" "${options[@]}" --target "$role" --tag "$(image_of "$role")" .
  echo "build: $(image_of "$role") in $((SECONDS - started)) s"
done
