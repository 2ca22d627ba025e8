package rollout

// Kinds of phases of a restore into running servers, beside RefreshSchedules.
const (
	// BootstrapACLs makes a provisional management token for a new cluster.
	BootstrapACLs Kind = "bootstrap ACLs"
	// FinishFormer completes what an earlier restore of something else has left.
	FinishFormer Kind = "finish the former restore"
	// CheckServers makes sure that all servers are healthy voters, and run the version that is declared.
	CheckServers Kind = "check the servers"
	// StartRestore finds the snapshot, and starts the Job that restores it.
	StartRestore Kind = "start the restore"
	// FollowRestore waits until the Job has ended.
	FollowRestore Kind = "follow the restore"
	// RecordRestore records what was restored: backups that follow say so.
	RecordRestore Kind = "record the restore"
	// HealServers repairs what a restore breaks: tokens, the catalog, and the configuration of autopilot.
	HealServers Kind = "heal the servers"
	// RecordOrigin records that the cluster has started from its snapshot, before a client can write: it is never restored again.
	RecordOrigin Kind = "record the origin"
	// InspectServers counts what the servers have after the restore.
	InspectServers Kind = "inspect the servers"
	// FinishRestore removes what a complete restore leaves. Until then, the next call resumes it.
	FinishRestore Kind = "finish the restore"
)

// Restorable is what a restore finds, and decides from.
type Restorable struct {
	// Origin says that the cluster is to start from the snapshot, and that clients do not reach it yet.
	Origin bool
	// ACLs says that the servers have an ACL system.
	ACLs bool
	// Begun says that an earlier call began this restore.
	Begun bool
	// Former says that the last steps of another restore are not done, and FormerChanged that it may have changed the servers.
	Former, FormerChanged bool
}

// RestorePhases lists the phases of a restore into running servers.
func RestorePhases(o Restorable) []Phase {
	var out []Phase
	add := func(due bool, k Kind) {
		if due {
			out = append(out, Phase{Kind: k})
		}
	}
	// If an earlier call got so far that the token may be gone, the restore makes it valid again.
	add(o.Origin && o.ACLs && !o.Begun && !o.FormerChanged, BootstrapACLs)
	add(o.Former, FinishFormer)
	add(!o.Begun, CheckServers)
	add(!o.Begun, StartRestore)
	add(true, FollowRestore)
	add(true, RecordRestore)
	add(true, HealServers)
	add(o.Origin, RecordOrigin)
	add(!o.Origin, RefreshSchedules)
	add(!o.Origin, InspectServers)
	add(true, FinishRestore)
	return out
}
