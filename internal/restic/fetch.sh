# Reads a snapshot back from the repository, for the container that comes next. restic checks the
# sums of all that it reads.
work=$1
id=$2
open_repository existing
mkdir -p "$work/fetched"
[ "$id" != latest ] || set -- "--host=$3" "--tag=$4"
[ "$id" = latest ] || set --
restic --no-cache --no-lock dump "$@" "$id" /scratch/backup/consul.tar >"$work/fetched/consul.tar" 2>/tmp/error ||
  fail "Snapshot $id cannot be read back from the repository."
