package server

import _ "embed"

// waitScript keeps a server without data from rejoining as the voter it was.
//
//go:embed await-peer-removal.sh
var waitScript string

// leaveScript takes a server out of the cluster before it is stopped.
//
//go:embed leave.sh
var leaveScript string

// startScript starts Consul.
//
//go:embed start.sh
var startScript string

// readyScript tells whether the leader answers through a server.
//
//go:embed ready.sh
var readyScript string

// votesScript tells whether a server that starts has its vote.
//
//go:embed votes.sh
var votesScript string
