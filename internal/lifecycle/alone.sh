# Makes a server start again as the only voter: writes peers.json, notes until when the file is part of a recovery (start.sh),
# and kills the agent, which is not asked to leave. If the agent is the first process of its PID namespace, the kernel ignores
# a KILL from within, and the Go runtime ends the agent on QUIT.
set -eu
peers=$1
seconds=$2 # how long the recovery may take
raft=$3
marker=$4

cd "$raft"
printf %s "$peers" >peers.new || { rm -f peers.new; exit 1; }
echo $(($(date +%s) + seconds)) >"$marker"
mv peers.new peers.json
pid=$(cat /tmp/pid)
kill -KILL "$pid"
sleep 1
kill -0 "$pid" 2>/dev/null && kill -QUIT "$pid"
exit 0
