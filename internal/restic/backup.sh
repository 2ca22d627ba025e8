# Stores the snapshot that the container before has taken and verified in a restic
# repository, and then forgets what the retention does not keep.
# What it is goes into the Pod's termination message: JSON, which ParseResult reads.
#
# $5 is "new" where a repository may be made: otherwise one that is gone is an error. The
# arguments after it are the flags of the retention.
set -u
umask 077
work=$1
host=$2
schedule=$3
result=$4
init=$5
shift 5

# Credentials are files: no argument shows them, and no description of the Pod.
for file in /credentials/*; do
  name=${file##*/}
  case $name in
    RESTIC_REPOSITORY | [0-9]* | *[!A-Za-z0-9_]*) ;; # the latter are no names of variables
    *) export "$name=$(cat "$file")" ;;
  esac
done
[ ! -e /credentials/ca.crt ] || export RESTIC_CACERT=/credentials/ca.crt
if [ -e /credentials/tls.crt ] && [ -e /credentials/tls.key ]; then
  (cat /credentials/tls.crt && echo && cat /credentials/tls.key) >/tmp/client.pem
  export RESTIC_TLS_CLIENT_CERT=/tmp/client.pem
fi

# The last words of a container that fails are what its Pod says.
fail() {
  [ ! -s /tmp/error ] || tail -n 3 /tmp/error >&2
  echo "$*" >&2
  exit 1
}

# restic itself goes on trying for a quarter of an hour where nobody answers. Without a lock:
# one that a Job has left which was killed must not keep the next ones out.
started=$(date +%s)
timeout 120 restic --no-cache --no-lock cat config >/dev/null 2>/tmp/error
code=$?
case $code in
  0) ;;
  10)
    [ "$init" = new ] || fail "The repository is gone."
    restic --no-cache init >/dev/null 2>/tmp/error || fail "There is no repository, and it cannot be made."
    ;;
  12) fail "The password is not that of the repository." ;;
  *)
    [ $(($(date +%s) - started)) -lt 119 ] || fail "The repository does not answer within two minutes."
    fail "The repository cannot be opened."
    ;;
esac

restic --no-cache unlock >/dev/null 2>&1 # from Jobs that were killed, after half an hour

if ! restic --no-cache --retry-lock 5m backup --json --host "$host" --tag "schedule=$schedule" \
  --tag "version=$(cat "$work/version")" --tag "index=$(cat "$work/index")" "$work/backup" >/tmp/summary 2>/tmp/error; then
  fail "The snapshot was taken, and not stored."
fi
# number prints a number of the summary, which is the last line.
summary=$(tail -n 1 /tmp/summary)
number() { echo "$summary" | sed -n "s/.*\"$1\":\([0-9][0-9]*\)[,}].*/\1/p"; }
id=$(echo "$summary" | sed -n 's/.*"snapshot_id":"\([0-9a-f]*\)".*/\1/p')
[ -n "$id" ] || fail "restic does not say what it has stored."

# Only what this schedule has stored is forgotten. Where a Job that was killed has left a
# lock, the next one does it.
forgotten=true
restic --no-cache --retry-lock 1m forget --host "$host" --tag "schedule=$schedule" --group-by host,paths "$@" >/dev/null 2>/tmp/error || forgotten=false
[ "$forgotten" = true ] || cat /tmp/error >&2

printf '{"snapshot":"%s","version":"%s","index":%s,"size":%s,"stored":%s,"forgotten":%s,"time":"%s"}' \
  "$id" "$(cat "$work/version")" "$(cat "$work/index")" "$(number total_bytes_processed)" "$(number data_added_packed)" \
  "$forgotten" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$result"
