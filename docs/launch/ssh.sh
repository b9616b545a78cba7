#!/usr/bin/env bash
# One training on several machines:
#
#   docs/launch/ssh.sh gpu1:2222 gpu2:2222 -- --model=dcgan --dataset=cifar10 --run_dir=/shared/dcgan
#
# The first machine is the chief, which writes and speaks. All hold this repository and its .venv at
# the path from which this is called, the data set, and the run directory on a disk that they share.
# When one ends, all do; the same command goes on from the last checkpoint. LOCAL=1 starts the
# processes on this machine, without ssh: LOCAL=1 docs/launch/ssh.sh localhost:2222 localhost:2223 -- ...
set -euo pipefail

places=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  places+=("$1")
  shift
done
if [ ${#places[@]} -eq 0 ] || [ $# -eq 0 ]; then
  echo "usage: $0 HOST:PORT [HOST:PORT ...] -- FLAG [FLAG ...]" >&2
  exit 2
fi
shift

workers=$(printf '"%s", ' "${places[@]}")
jobs=()
for i in "${!places[@]}"; do
  config="{\"cluster\": {\"worker\": [${workers%, }]}, \"task\": {\"type\": \"worker\", \"index\": $i}}"
  command="cd $(printf %q "$PWD") && TF_CONFIG=$(printf %q "$config") exec"
  command+=" ${PYTHON:-.venv/bin/python} main.py --strategy=multi_worker$(printf ' %q' "$@")"
  if [ "${LOCAL:-}" ]; then
    bash -c "$command" &
  else
    ssh -tt "${places[i]%:*}" "$command" < /dev/null & # -tt: ends there when it ends here
  fi
  jobs+=($!)
done

trap 'kill "${jobs[@]}" 2> /dev/null || true' INT TERM
status=0
for job in "${jobs[@]}"; do
  while :; do
    code=0
    wait "$job" || code=$?
    kill -0 "$job" 2> /dev/null || break # a signal ends `wait` before the job
  done
  [ $code -eq 0 ] || status=$code
done
exit $status
