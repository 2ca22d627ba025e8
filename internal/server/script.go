package server

import _ "embed"

// waitScript keeps a server without data from rejoining as the voter that it was.
//
//go:embed await-peer-removal.sh
var waitScript string

// leaveScript removes a server from the cluster before it is stopped.
//
//go:embed leave.sh
var leaveScript string

// superviseScript runs startScript, and again when the provider asks for a restart.
//
//go:embed supervise.sh
var superviseScript string

// startScript starts Consul.
//
//go:embed start.sh
var startScript string

// readyScript checks whether the leader answers through a server.
//
//go:embed ready.sh
var readyScript string

// votesScript checks whether a starting server has its vote.
//
//go:embed votes.sh
var votesScript string
