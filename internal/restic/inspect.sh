# What containers that handle snapshots with the command consul begin with.
set -eu
umask 077
[ -e /scratch/started ] || date +%s >/scratch/started

fail() {
  echo "$*" >&2
  exit 1
}

# number prints the first number that an inspection has under a name: that of the Raft log,
# which comes first.
number() { sed -n "s/^ *\"$2\": *\([0-9][0-9]*\),*$/\1/p" "$1" | head -n 1; }

# counts prints how many records of each kind an inspection has found, as JSON.
counts() { awk '/"Name":/ {gsub(/[",]/,""); n=$2} /"Count":/ {gsub(/,/,""); printf "%s\"%s\":%s", s, n, $2; s=","}' "$1"; }

# save takes a snapshot of the servers at an address and reads it back whole: the command that
# saves it checks the sums that it contains, the one that inspects it decodes every record.
# One try may meet an election.
save() {
  tries=1
  until consul snapshot save -http-addr="$1" ${3:+"-token-file=$3"} "$2" >/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -le 5 ] || exit 1
    sleep 3
  done
  consul snapshot inspect -format=json "$2" >"$2.json"
}

# leads prints the version of Consul that the leader of the servers at an address runs, nothing where it cannot be told. The
# addresses of Raft and of gossip have the same host and another port.
leads() {
  consul operator raft list-peers -http-addr="$1" ${2:+"-token-file=$2"} 2>/dev/null |
    awk '$4 == "leader" { sub(/:[0-9]+$/, "", $3); print $3 }' >/tmp/leader
  consul members -http-addr="$1" ${2:+"-token-file=$2"} 2>/dev/null |
    awk -v leader="$(cat /tmp/leader)" '{ sub(/:[0-9]+$/, "", $2) } $2 == leader && $4 == "server" && $5 ~ /^[0-9]+[.]/ { print $5; exit }'
}
