# Restores what was fetched and verified into the servers.
work=$1
address=$2
result=$3
token=${4:-}

tries=1
until consul snapshot restore -http-addr="$address" ${token:+"-token-file=$token"} "$work/fetched/consul.snap"; do
  tries=$((tries + 1))
  [ "$tries" -le 3 ] || exit 1
  sleep 3
done
printf '{"time":"%s"}' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$result"
