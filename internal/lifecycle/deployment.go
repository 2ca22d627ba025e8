// Package lifecycle carries out what happens to a cluster: create, update, adoption, backup and restore, recovery, and delete. It observes
// what runs, lets package rollout decide, and acts. It does not know about Terraform.
package lifecycle

import (
	"errors"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Deployment creates, changes, reads and deletes the servers of one cluster.
type Deployment struct {
	Kube   *kube.Client
	Consul *consul.Cluster
	// Report is called for every action of a rollout. Each is an Event of the StatefulSet too.
	Report func(rollout.Action)
	// Known is what was declared before an Update, for settings that cannot be read from the live
	// cluster. If it is nil, the current declaration is used.
	Known *server.Spec
	// Began is when the operation began: what Kubernetes reported before is not about it.
	Began time.Time
	// Origin is where a cluster with a pending Spec.Origin gets its snapshot from. Without it, an
	// Update cancels the restore.
	Origin *Origin
	// Unchecked is called with the reason why Consul could not check a configuration before the
	// servers get it.
	Unchecked func(why error)
}

// Errors that a create returns before anything was touched.
var (
	// ErrExists says that a cluster of the name exists, and is not what an interrupted create of the same spec leaves.
	ErrExists = errors.New("the cluster already exists")
	// ErrNamespaceExists says that a namespace that was to be created exists.
	ErrNamespaceExists = errors.New("the namespace already exists")
)

// UnsettledError says that everything was applied, but that not all servers are healthy voters that
// run it. Nothing is lost: the same call resumes the operation.
type UnsettledError struct {
	// Err says what was waited for, and what autopilot said.
	Err error
	// Explanation is what Kubernetes reports for the pods (kube.Client.Explain).
	Explanation string
}

// Error implements error.
func (e *UnsettledError) Error() string { return e.Err.Error() + "\n\n" + e.Explanation }

// Unwrap returns what was waited for.
func (e *UnsettledError) Unwrap() error { return e.Err }
