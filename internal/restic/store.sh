# Stores the snapshot that the container before has taken and verified, under a host and a tag
# that says what for, and then forgets what the retention does not keep of that tag, if there is
# any. RESTORED names the latest restore of the cluster, if there was one. What it is goes into the Pod's termination message: JSON, which ParseResult reads.
work=$1
host=$2
tag=$3
result=$4
open_repository "$5"
shift 5 # what is left are the flags of the retention
unlock

if ! restic --no-cache --retry-lock 15m backup --json --host "$host" --tag "$tag" \
  --tag "version=$(cat "$work/version")" --tag "index=$(cat "$work/index")" ${RESTORED:+--tag "restored=$RESTORED"} "$work/backup" >/tmp/summary 2>/tmp/error; then
  fail "The snapshot was taken, and not stored."
fi
# number prints a number of the summary, which is the last line.
summary=$(tail -n 1 /tmp/summary)
number() { echo "$summary" | sed -n "s/.*\"$1\":\([0-9][0-9]*\)[,}].*/\1/p"; }
id=$(echo "$summary" | sed -n 's/.*"snapshot_id":"\([0-9a-f]*\)".*/\1/p')
[ -n "$id" ] || fail "restic does not say what it has stored."

# Only what has the tag is forgotten. Where a Job that was killed has left a lock, the next
# one does it. A Raft log only grows: where the index of the snapshots falls, the cluster has started
# empty, and what it had is kept until something is restored, or somebody has forgotten it by hand.
# What was restored from another repository the snapshots themselves say.
forgotten=true
anew=false
if [ $# -gt 0 ]; then
  restic --no-cache --no-lock snapshots --json --host "$host" >/tmp/list 2>/tmp/error || forgotten=false
  fallen=$(tr '{' '\n' </tmp/list | awk -v tag="\"$tag\"" '
    match($0, /"restored=[^"]*"/) { mark = substr($0, RSTART, RLENGTH); if (mark != last) { highest = 0; fallen = 0 } last = mark }
    /"before-restore=/ { highest = 0; fallen = 0; next }
    index($0, tag) && match($0, /"index=[0-9]+"/) { n = substr($0, RSTART + 7, RLENGTH - 8) + 0; if (n < highest) fallen = 1; highest = n }
    END { print fallen + 0 }')
  [ "$fallen" = 0 ] || anew=true
  if [ "$anew" = true ]; then
    forgotten=false
  elif [ "$forgotten" = true ]; then
    restic --no-cache --retry-lock 1m forget --host "$host" --tag "$tag" --group-by host,paths "$@" >/dev/null 2>/tmp/error || forgotten=false
    [ "$forgotten" = true ] || cat /tmp/error >&2
  fi
fi

printf '{"snapshot":"%s","version":"%s","index":%s,"size":%s,"stored":%s,"forgotten":%s,"anew":%s,"time":"%s"}' \
  "$id" "$(cat "$work/version")" "$(cat "$work/index")" "$(number total_bytes_processed)" "$(number data_added_packed)" \
  "$forgotten" "$anew" "$(now)" >"$result"
