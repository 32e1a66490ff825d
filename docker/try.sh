#!/usr/bin/env bash
# Runs the three tiers, gateway and autoscaler from their images as a cluster would: as a user of its own, with a
# read-only root file system and without capabilities. Ends with 0 when texts have come through all of them.
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
roles=(target draft orchestrator gateway autoscaler)
declare -A admin_port=([target]=9102 [draft]=9101 [orchestrator]=9100 [gateway]=9103 [autoscaler]=9104)
read -ra more <<<"${RUN_OPTIONS-}"

clean_up() {
  "$runner" rm --force "${roles[@]/#/$prefix-}" >/dev/null 2>&1 || true
  rm -rf "$weights"
}
trap clean_up EXIT

run() { # ROLE ARGUMENT...
  local role=$1
  shift
  "$runner" run --detach --name "$prefix-$role" --network host --read-only --tmpfs /tmp --cap-drop all \
    --security-opt no-new-privileges --volume "$weights:/models:ro" --env "ADMIN_PORT=${admin_port[$role]}" \
    "${more[@]}" "$(image_of "$role")" "$@" >/dev/null
}

wait_until_ready() { # ROLE: asks its admin port, as a probe of a cluster does
  "$runner" exec "$prefix-$1" python -c '
import os, time, urllib.error, urllib.request
assert os.getuid() == 10001
deadline = time.monotonic() + 120
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:%s/readyz" % os.environ["ADMIN_PORT"]).close()
        break
    except OSError as error:
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready: {error}")
        time.sleep(0.2)
' || {
    "$runner" logs "$prefix-$1" >&2
    exit 1
  }
}

holder=$("$runner" create "$(image_of weights)")
"$runner" cp "$holder:/models/." "$weights"
"$runner" rm "$holder" >/dev/null
chmod -R a+rX "$weights"

run target --model "$model" --listen 127.0.0.1:50052
run draft --model draft:smollm2-135m-instruct --listen 127.0.0.1:50051
run orchestrator --model "$model" --listen 127.0.0.1:50050
run gateway --listen 127.0.0.1:8000
run autoscaler --listen 127.0.0.1:50053
for role in "${roles[@]}"; do
  wait_until_ready "$role"
done
"$runner" exec "$prefix-orchestrator" \
  forethought generate --address 127.0.0.1:50050 --max-tokens 32 --temperature 0 'Why is the sky blue?'
"$runner" exec "$prefix-gateway" python -c '
import json, urllib.request
body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "temperature": 0, "max_tokens": 32}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", json.dumps(body).encode())
request.add_header("content-type", "application/json")
print("gateway:", json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
'
"$runner" stop "$prefix-autoscaler" "$prefix-gateway" "$prefix-orchestrator" "$prefix-draft" "$prefix-target" >/dev/null
for role in "${roles[@]}"; do
  code=$("$runner" inspect --format '{{.State.ExitCode}}' "$prefix-$role")
  [[ $code == 0 ]] || {
    echo "try: $role ended with $code; its log:" >&2
    "$runner" logs "$prefix-$role" >&2
    exit 1
  }
done
"$runner" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep "$(image_of '' | sed 's/:/.*:/')"
