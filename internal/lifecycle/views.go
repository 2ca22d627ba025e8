package lifecycle

// The types below are a Deployment as one concern sees it. Each has the methods of that concern, in the file that it is named in.
type (
	// adoption makes a cluster of servers that another tool made (adopt.go, adopt_check.go, takeover.go).
	adoption struct{ Deployment }
	// configCheck lets Consul check a configuration (check.go).
	configCheck struct{ Deployment }
	// credentials are what servers and this provider identify themselves with: certificates, gossip keys, and agent tokens
	// (secrets.go).
	credentials struct{ Deployment }
	// deletion deletes what is left of a cluster (delete.go).
	deletion struct{ Deployment }
	// lease keeps other applies from changing the cluster meanwhile (exclusive.go).
	lease struct{ Deployment }
	// objects are the objects of a cluster in Kubernetes, except its volumes (objects.go, labels.go, apply.go).
	objects struct{ Deployment }
	// observer finds out what runs (running.go).
	observer struct{ Deployment }
	// recovery recovers a lost quorum (recover.go, remains.go).
	recovery struct{ Deployment }
	// restores restore backups (restore.go, origin.go).
	restores struct{ Deployment }
	// snapshots take the snapshot before an upgrade (snapshot.go).
	snapshots struct{ Deployment }
	// stops stop servers (stop.go).
	stops struct{ Deployment }
	// volumes are the volume claims of the servers (volumes.go, retained.go).
	volumes struct{ Deployment }
)
