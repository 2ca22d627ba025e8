# Checks the structure of the repository, and reads one part of its data: another one each time,
# all of it in as many times as there are parts. Where checks do not come evenly, as on weekdays alone,
# the order moves on by one with each round, so that no part is left out for ever.
result=$1
parts=$2
every=$3 # seconds
open_repository existing
unlock
turn=$(($(date +%s) / every))
part=$(((turn + turn / parts) % parts + 1))
restic --no-cache --retry-lock 15m check --read-data-subset="$part/$parts" >/tmp/out 2>/tmp/error || fail "The repository is damaged."
printf '{"time":"%s","part":%s,"parts":%s}' "$(now)" "$part" "$parts" >"$result"
