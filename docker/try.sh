#!/usr/bin/env bash
# Runs the three tiers from their images as a cluster would: as a user of its own, with a read-only root
# file system and without capabilities. Ends with 0 when a text has come through all of them.
#
# Environment: RUNNER (docker or podman), RUN_OPTIONS (more options of `run`), REPOSITORY and TAG as in build.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=docker/tools.sh
source docker/tools.sh

runner=${RUNNER:-$(first_of docker podman)} || {
  echo 'try: install docker or podman' >&2
  exit 1
}
model=/models/SmolLM2-135M-Instruct.Q4_1.gguf
weights=$(mktemp --directory)
prefix=forethought-try-$$
read -ra more <<<"${RUN_OPTIONS-}"

clean_up() {
  "$runner" rm --force "$prefix-target" "$prefix-draft" "$prefix-orchestrator" >/dev/null 2>&1 || true
  rm -rf "$weights"
}
trap clean_up EXIT

run() { # ROLE ARGUMENT...
  local role=$1
  shift
  "$runner" run --detach --name "$prefix-$role" --network host --read-only --tmpfs /tmp --cap-drop all \
    --security-opt no-new-privileges --volume "$weights:/models:ro" "${more[@]}" "$(image_of "$role")" "$@" >/dev/null
}

holder=$("$runner" create "$(image_of weights)")
"$runner" cp "$holder:/models/." "$weights"
"$runner" rm "$holder" >/dev/null
chmod -R a+rX "$weights"

run target --model "$model" --listen 127.0.0.1:50052
run draft --model draft:smollm2-135m-instruct --proposer model --listen 127.0.0.1:50051
run orchestrator --model "$model" --listen 127.0.0.1:50050
for role in target draft orchestrator; do
  "$runner" exec "$prefix-$role" python -c 'import os; assert os.getuid() == 10001'
done
"$runner" exec "$prefix-orchestrator" \
  forethought generate --address 127.0.0.1:50050 --max-tokens 32 --temperature 0 'Why is the sky blue?'
"$runner" stop "$prefix-orchestrator" "$prefix-draft" "$prefix-target" >/dev/null
for role in target draft orchestrator; do
  code=$("$runner" inspect --format '{{.State.ExitCode}}' "$prefix-$role")
  [[ $code == 0 ]] || {
    echo "try: $role ended with $code; its log:" >&2
    "$runner" logs "$prefix-$role" >&2
    exit 1
  }
done
"$runner" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep "$(image_of '' | sed 's/:/.*:/')"
