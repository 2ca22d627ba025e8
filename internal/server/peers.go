package server

// RaftPeer is one entry of a Raft configuration.
type RaftPeer struct {
	// ID is the node ID, "" if the token may not read it, and Address is "<ip>:<port>" of the RPC.
	ID, Address string
	// Voter says that the peer has a vote.
	Voter bool
}

// LogEnd is the last entry of a Raft log.
type LogEnd struct{ Term, Index uint64 }

// Less reports whether a log ends before another one. A later term wins, whatever the index: that is how Raft compares
// logs.
func (e LogEnd) Less(o LogEnd) bool {
	return e.Term < o.Term || (e.Term == o.Term && e.Index < o.Index)
}

// RaftState is what one server knows of Raft by itself, with or without a leader.
type RaftState struct {
	// Leader is the address of the leader that the server follows, "" if it knows no leader.
	Leader string
	// Peers is the Raft configuration that the server has. A server without data has none.
	Peers []RaftPeer
	// Log is the end of the server's log; zero if the token may not read it.
	Log LogEnd
}
