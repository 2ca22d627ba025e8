package lifecycle

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ports are all that an operation reaches the world through.
type ports struct {
	objects     Objects
	servers     Servers
	credentials Credentials
	snapshots   Snapshots
	lease       Lease
	clock       Clock
	// report reports an action to people.
	report func(context.Context, rollout.Action)
}

// Exclusively implements rollout.Operator for every operation.
func (p ports) Exclusively(ctx context.Context, do func(context.Context) error) error {
	return p.lease.exclusively(ctx, do)
}

// Objects are the objects of a cluster in Kubernetes.
type Objects interface {
	// read reads them as they are. Objects that do not exist are nil.
	read(ctx context.Context) (server.Set, error)
	// apply applies the objects of a set, in order, and returns those that were accepted before an error.
	apply(ctx context.Context, set, live server.Set) (accepted []server.Object, err error)
	// delete deletes an object. One that no longer exists is not an error.
	delete(ctx context.Context, o server.Object) error
	// isOrphaned reports whether the cluster exists without its StatefulSet, and attach creates the StatefulSet around the pods.
	isOrphaned(ctx context.Context, live server.Set, cluster string) (bool, error)
	attach(ctx context.Context, spec server.Spec, live server.Set) (server.Set, error)
	// relabel replaces the former labels of the objects that no spec renders.
	relabel(ctx context.Context, former, declared map[string]string) error
	// keepRouted lets the client Service select pods by another label without an interruption.
	keepRouted(ctx context.Context, live server.Set) error
	// tellServers brings the number of declared servers into the pods, which know a former one.
	tellServers(ctx context.Context, former, declared int32) error
	// formerConfig is the configuration of the servers that do not run a spec yet.
	formerConfig(ctx context.Context, spec server.Spec, live server.Set) (map[string]string, error)
	// checkConfig lets Consul check the configuration of a spec, in a Job. It returns a *ConfigError if Consul refuses it.
	checkConfig(ctx context.Context, before, spec server.Spec, live server.Set) error
	// startVolumes makes volumes grow, and reports whether there is a change of the volumes to complete, which markResized ends.
	startVolumes(ctx context.Context, spec server.Spec, live server.Set) (resizing bool, err error)
	markResized(ctx context.Context) error
	// markData records on the claims which version of Consul has data on their volumes.
	markData(ctx context.Context, established bool) error
	// retained lists the volume claims and the Secrets, and deleteData deletes them.
	retained(ctx context.Context) (claims, secrets []string, err error)
	deleteData(ctx context.Context) error
	// deleteJobs deletes the Jobs that interrupted operations left.
	deleteJobs(ctx context.Context) error
	// contents names what was put into the namespace, and deleteNamespace deletes the namespace with all of it.
	contents(ctx context.Context) ([]string, error)
	deleteNamespace(ctx context.Context, namespace *corev1.Namespace) error
}

// Servers are the servers of a cluster.
type Servers interface {
	// running finds out what the servers run, and look does so without asking them.
	running(ctx context.Context, live server.Set, applied server.Spec) (Running, error)
	look(ctx context.Context, applied server.Spec, live server.Set) (Running, error)
	// rollable is what a rollout looks at and acts on.
	rollable(l Live) rollout.Cluster
	// stopUnelected stops all servers of a cluster that never had a leader, and returns the objects as they are then.
	stopUnelected(ctx context.Context, spec server.Spec) (server.Set, error)
	// stop stops all servers before they are deleted, and revert gives the former servers back what an adoption took from them.
	stop(ctx context.Context, spec server.Spec, live server.Set) error
	revert(ctx context.Context, spec server.Spec, live server.Set) error
	// recoverQuorum returns a *RefusedRecoveryError or a *RecoveryError.
	recoverQuorum(ctx context.Context, spec server.Spec, from string) error
	// checkFormer checks whether a new cluster can adopt the servers of spec.Adopt, and returns a *RefusedError if it cannot. rejoin is
	// how far an adoption is, with the current addresses of the former servers.
	checkFormer(ctx context.Context, spec server.Spec, live server.Set) (former, error)
	rejoin(ctx context.Context, before server.Takeover, statefulSet string) (server.Takeover, error)
	// adoptable is what an adoption looks at and acts on.
	adoptable(spec server.Spec, token string, desired int) rollout.Cluster
	// unsettled is the *UnsettledError that explains err.
	unsettled(ctx context.Context, err error, spec server.Spec) error
}

// Credentials are what servers and this provider identify themselves with.
type Credentials interface {
	// token is the management token, "" before the bootstrap of ACLs.
	token(ctx context.Context) (string, error)
	// keepToken and keepKeys copy what former servers use, and ensureKeys and ensureCertificates create what the servers of a spec need.
	// Each returns a function that removes what it made.
	keepToken(ctx context.Context, token string) (remove, error)
	keepKeys(ctx context.Context, spec server.Spec, token string) (remove, error)
	ensureKeys(ctx context.Context, running, spec server.Spec) (remove, error)
	ensureCertificates(ctx context.Context, running, spec server.Spec) (remove, error)
	deleteKeys(ctx context.Context) error
	deleteCertificates(ctx context.Context) error
	deletePublishedCA(ctx context.Context) error
	// loadCertificates makes the servers load their certificates.
	loadCertificates(ctx context.Context, spec server.Spec) error
	// checkReloads refuses a change of TLS if the servers could not be told to reload.
	checkReloads(ctx context.Context, before, spec server.Spec) error
	// renewAgentTokens returns an *AgentTokensError.
	renewAgentTokens(ctx context.Context) error
	// afterRoll sets what requires rights in Consul.
	afterRoll(ctx context.Context, spec server.Spec, token string, desired int) error
}

// Snapshots are the backups of a cluster.
type Snapshots interface {
	// takeSnapshot takes the snapshot before an upgrade. It returns a *SnapshotError.
	takeSnapshot(ctx context.Context, running, next server.Spec) (*server.Snapshot, error)
	// prepareOrigin looks for the snapshot that a new cluster is to start from. It returns an *OriginError.
	prepareOrigin(ctx context.Context) error
	// restoreOrigin restores that snapshot, cancelRestore ends a restore that is no longer declared, and awaitRestore waits for one
	// whose provider was killed.
	restoreOrigin(ctx context.Context) error
	cancelRestore(ctx context.Context) error
	awaitRestore(ctx context.Context) error
	// routeClients routes clients to a cluster that was restored.
	routeClients(ctx context.Context) error
	// refreshSchedules makes the backup schedules follow a change of the cluster.
	refreshSchedules(ctx context.Context) error
}

// RestoreJobs carry out one restore that was asked for.
type RestoreJobs interface {
	// begun returns the restore whose last steps are not done, nil if there is no such restore, and finish removes its Job.
	begun(ctx context.Context) (*restic.Restoring, error)
	finish(ctx context.Context) error
	// bootstrap makes a provisional management token.
	bootstrap(ctx context.Context) error
	// checkServers waits for healthy servers of the declared version, and returns where the management token is.
	checkServers(ctx context.Context, running server.Spec) (consulacl.SecretRef, error)
	// start starts a restore, and follow waits until it has ended. follow returns a *kube.JobError or a *restic.UncertainError.
	start(ctx context.Context, running server.Spec, token consulacl.SecretRef) (*restic.Restoring, error)
	follow(ctx context.Context, job *restic.Restoring) (restic.Restored, error)
	// record and recordOrigin record on the StatefulSet what was restored, and that the cluster has started from it.
	record(ctx context.Context, r restic.Restored) error
	recordOrigin(ctx context.Context, r restic.Restored) error
	// heal repairs what a restore breaks.
	heal(ctx context.Context, running server.Spec) error
	// inspect counts what the servers have.
	inspect(ctx context.Context, running server.Spec) (restic.Inspection, error)
}

// Lease keeps other applies from changing the cluster.
type Lease interface {
	// exclusively calls do while no other apply changes the cluster.
	exclusively(ctx context.Context, do func(context.Context) error) error
	// delete deletes the Lease, which nobody may hold.
	delete(ctx context.Context) error
}

// Clock is how an operation waits.
type Clock interface {
	// wait calls check again and again until nothing is missing.
	wait(ctx context.Context, what string, check func(context.Context) (missing string, err error)) error
	now() time.Time
}

// portsOf are the ports of a cluster in Kubernetes.
func portsOf(d Deployment) ports {
	return ports{
		objects:     kubeObjects{objects{d}, volumes{d}, configCheck{d}, deletion{d}},
		servers:     kubeServers{observer{d}, stops{d}, recovery{d}, adoption{d}},
		credentials: credentials{d},
		snapshots:   kubeSnapshots{snapshots{d}, restores{d}},
		lease:       lease{d},
		clock:       systemClock{},
		report:      d.report,
	}
}

// kubeObjects are Objects.
type kubeObjects struct {
	objects
	volumes
	configCheck
	deletion
}

// kubeServers are Servers.
type kubeServers struct {
	observer
	stops
	recovery
	adoption
}

func (s kubeServers) look(ctx context.Context, applied server.Spec, live server.Set) (Running, error) {
	return s.observer.look(ctx, applied, live)
}

func (s kubeServers) unsettled(ctx context.Context, err error, spec server.Spec) error {
	return s.observer.unsettled(ctx, err, spec)
}

// kubeSnapshots are Snapshots.
type kubeSnapshots struct {
	snapshots
	restores
}

// systemClock is a Clock.
type systemClock struct{}

func (systemClock) wait(ctx context.Context, what string, check func(context.Context) (string, error)) error {
	return kube.Wait(ctx, what, interval, check)
}

func (systemClock) now() time.Time { return time.Now() }
