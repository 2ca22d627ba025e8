# Checks the structure of the repository, and reads one part of its data: another one each time,
# all of it in as many times as there are parts.
result=$1
parts=$2
every=$3 # seconds
open_repository existing
unlock
part=$(($(date +%s) / every % parts + 1))
restic --no-cache --retry-lock 15m check --read-data-subset="$part/$parts" >/tmp/out 2>/tmp/error || fail "The repository is damaged."
printf '{"time":"%s","part":%s,"parts":%s}' "$(now)" "$part" "$parts" >"$result"
