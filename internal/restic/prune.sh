# Removes from the repository what no snapshot refers to.
result=$1
open_repository existing
unlock
restic --no-cache --retry-lock 15m prune >/tmp/out 2>/tmp/error || fail "The repository cannot be pruned."
printf '{"time":"%s"}' "$(now)" >"$result"
