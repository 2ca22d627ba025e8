# Prints the snapshots of the repository that have a host, or all of them, as restic's JSON.
open_repository existing
restic --no-cache --no-lock snapshots --json ${1:+"--host=$1"} >/tmp/list 2>/tmp/error || fail "The snapshots cannot be listed."
cat /tmp/list
