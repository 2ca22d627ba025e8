# Takes a snapshot of the servers, from the leader, and reads it back whole: the command
# that saves it checks the sums that it contains, the one that inspects it decodes every
# record. Only then is it left for the next container, unpacked: in what is compressed restic
# does not find what it has already.
#
# One try may meet an election.
set -eu
umask 077
work=$1
version=$2
address=$3
token=${4:-}

cd "$work"
tries=1
until consul snapshot save -http-addr="$address" ${token:+"-token-file=$token"} taken; do
  tries=$((tries + 1))
  [ "$tries" -le 5 ] || exit 1
  sleep 3
done
mkdir -p backup
consul snapshot inspect -format=json taken >backup/info.json
gunzip -c taken >backup/consul.tar
rm taken

# number prints the first number that the inspection has under a name: that of the
# Raft log, which comes first.
number() { sed -n "s/^ *\"$1\": *\([0-9][0-9]*\),*$/\1/p" backup/info.json | head -n 1; }

index=$(number Index)
[ "$index" -gt 0 ] || { echo "the snapshot has no index" >&2 && exit 1; }
echo "$version" >version
echo "$index" >index
