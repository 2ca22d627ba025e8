# Takes a snapshot of the servers, from the leader, into a folder, and says in the
# Pod's termination message what it is: JSON, which ParseSnapshot reads. A file
# gets its name only when it was read back whole: the command that saves it checks
# the sums that it contains, the one that inspects it decodes every record.
#
# One try may meet an election. The three newest snapshots stay.
set -eu
umask 077
dir=$1
version=$2
address=$3
result=$4
token=${5:-}

cd "$dir"
rm -rf .taking # of one that was interrupted
mkdir .taking
file=.taking/snapshot
trap 'rm -rf .taking' EXIT

tries=1
until consul snapshot save -http-addr="$address" ${token:+"-token-file=$token"} "$file"; do
  tries=$((tries + 1))
  [ "$tries" -le 5 ] || exit 1
  sleep 3
done
consul snapshot inspect -format=json "$file" >.taking/info

# number prints the first number that the inspection has under a name: that of the
# Raft log, which comes first.
number() { sed -n "s/^ *\"$1\": *\([0-9][0-9]*\),*$/\1/p" .taking/info | head -n 1; }

time=$(date -u +%Y-%m-%dT%H:%M:%SZ)
name=consul-$version-$(echo "$time" | tr -d ':-').snap
size=$(wc -c <"$file" | tr -d ' ')
sum=$(sha256sum "$file" | cut -d ' ' -f 1)
mv "$file" "$name"
sync

ls -t consul-*.snap | grep -vxF "$name" | tail -n +3 | while read -r old; do rm -f "$old"; done

printf '{"file":"%s","version":"%s","index":%s,"term":%s,"size":%s,"sha256":"%s","time":"%s"}' \
  "$name" "$version" "$(number Index)" "$(number Term)" "$size" "$sum" "$time" >"$result"
